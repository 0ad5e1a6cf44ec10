//! Queues that work and binds are submitted to.

use super::device::Device;
use super::errors::{Meaning, explain, means};
use super::query::Engine;
use super::vm::Vm;
use crate::channel::{ProcessGuard, Retry};
use crate::error::{Errno, Error, ErrorKind, Result};
use crate::uapi::IoctlArg;
use crate::uapi::xe::{
    DRM_XE_ENGINE_CLASS_VM_BIND, DRM_XE_EXEC_QUEUE_EXTENSION_SET_PROPERTY,
    DRM_XE_EXEC_QUEUE_GET_PROPERTY_BAN, DRM_XE_EXEC_QUEUE_LOW_LATENCY_HINT,
    DRM_XE_EXEC_QUEUE_SET_PROPERTY_PRIORITY, DRM_XE_EXEC_QUEUE_SET_PROPERTY_TIMESLICE, EngineClassInstance,
    ExecQueueCreate, ExecQueueDestroy, ExecQueueGetProperty, ExtSetProperty, UserExtension,
};

/// Which queue's work goes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Priority {
    /// After others.
    Low,
    /// The default.
    #[default]
    Normal,
    /// Before others; needs `CAP_SYS_NICE`.
    High,
}

/// How a queue is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueOptions {
    priority: Option<Priority>,
    timeslice_us: Option<u64>,
    low_latency: bool,
}

impl QueueOptions {
    /// Normal priority, the driver's time slice, no hint.
    #[must_use]
    pub const fn new() -> Self {
        Self { priority: None, timeslice_us: None, low_latency: false }
    }

    /// A priority.
    #[doc(alias = "DRM_XE_EXEC_QUEUE_SET_PROPERTY_PRIORITY")]
    #[must_use]
    pub const fn priority(mut self, priority: Priority) -> Self {
        self.priority = Some(priority);
        self
    }

    /// How long the queue runs before others get their turn, in microseconds.
    #[doc(alias = "DRM_XE_EXEC_QUEUE_SET_PROPERTY_TIMESLICE")]
    #[must_use]
    pub const fn timeslice_us(mut self, microseconds: u64) -> Self {
        self.timeslice_us = Some(microseconds);
        self
    }

    /// Raises the frequency for short work.
    #[doc(alias = "DRM_XE_EXEC_QUEUE_LOW_LATENCY_HINT")]
    #[must_use]
    pub const fn low_latency(mut self) -> Self {
        self.low_latency = true;
        self
    }
}

const CREATE: &[Meaning] = &[
    means(
        Errno::EINVAL,
        ErrorKind::InvalidArgument,
        "an engine does not exist or is reserved, the engines are of different classes, or a property is out of range",
        "ask Device::engines for engines",
    ),
    means(
        Errno::ENOENT,
        ErrorKind::NotFound,
        "the VM does not exist, or the driver killed it",
        "use a living VM of the same open file",
    ),
    means(
        Errno::EPERM,
        ErrorKind::PermissionDenied,
        "the priority is above what this process may use",
        "Config::max_exec_queue_priority; high needs CAP_SYS_NICE",
    ),
    means(
        Errno::EOPNOTSUPP,
        ErrorKind::Unsupported,
        "the device does not run such a queue",
        "use one engine of class Copy or Compute",
    ),
    means(
        Errno::ENOSPC,
        ErrorKind::OutOfVram,
        "no device memory for the queue's state",
        "free device memory and repeat the call",
    ),
    means(Errno::E2BIG, ErrorKind::InvalidArgument, "too many properties", "at most 16"),
];

const PROPERTY: &[Meaning] = &[means(
    Errno::ENOENT,
    ErrorKind::NotFound,
    "the queue does not exist",
    "use a queue of the same open file",
)];

/// The id of a queue, destroyed on drop.
#[derive(Debug)]
struct QueueId {
    device: Device,
    id: u32,
    guard: ProcessGuard,
}

impl QueueId {
    fn create(vm: &Vm, mut arg: ExecQueueCreate) -> Result<Self> {
        vm.check_process(ExecQueueCreate::NAME)?;
        let guard = ProcessGuard::current()?;
        // SAFETY: the kernel reads the instances and the chain of extensions during the call; the callers keep both.
        unsafe { vm.device().channel().call(&mut arg, Retry::Interrupted) }
            .map_err(|error| explain(error, CREATE))?;
        Ok(Self { device: vm.device().clone(), id: arg.exec_queue_id, guard })
    }
}

impl Drop for QueueId {
    fn drop(&mut self) {
        if !self.guard.is_owner() {
            return;
        }
        let mut arg = ExecQueueDestroy { exec_queue_id: self.id, ..Default::default() };
        // SAFETY: the argument holds no address. A failure leaves nothing to do: the queue goes with the open file.
        let _ = unsafe { self.device.channel().call(&mut arg, Retry::Always) };
    }
}

/// A queue of GPU work in one VM (`EXEC_QUEUE_CREATE`), destroyed on drop; work that still runs is ended.
#[doc(alias = "drm_xe_exec_queue_create")]
#[derive(Debug)]
pub struct ExecQueue(QueueId);

impl ExecQueue {
    /// Creates a queue whose work runs on any one of `engines`, which are of one class and GT.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`] (`EINVAL`, or no engine at all), [`ErrorKind::NotFound`] (`ENOENT`),
    /// [`ErrorKind::PermissionDenied`] (`EPERM`), [`ErrorKind::Unsupported`] (`EOPNOTSUPP`), [`ErrorKind::OutOfMemory`],
    /// [`ErrorKind::OutOfVram`], [`ErrorKind::DeviceLost`], [`ErrorKind::ForeignProcess`].
    pub fn create(vm: &Vm, engines: &[Engine], options: QueueOptions) -> Result<Self> {
        let instances: Vec<EngineClassInstance> = engines.iter().copied().map(Into::into).collect();
        let num_placements = u16::try_from(instances.len()).map_err(|_| {
            Error::new(ErrorKind::InvalidArgument, ExecQueueCreate::NAME).because("more than 65535 engines")
        })?;
        let property = |property, value, next: Option<&ExtSetProperty>| ExtSetProperty {
            base: UserExtension {
                next_extension: next.map_or(0, |next| &raw const *next as u64),
                name: DRM_XE_EXEC_QUEUE_EXTENSION_SET_PROPERTY,
                pad: 0,
            },
            property,
            value,
            ..Default::default()
        };
        let timeslice =
            options.timeslice_us.map(|value| property(DRM_XE_EXEC_QUEUE_SET_PROPERTY_TIMESLICE, value, None));
        let priority = options.priority.map(|priority| {
            property(DRM_XE_EXEC_QUEUE_SET_PROPERTY_PRIORITY, priority as u64, timeslice.as_ref())
        });
        let chain = priority.as_ref().or(timeslice.as_ref());
        QueueId::create(
            vm,
            ExecQueueCreate {
                extensions: chain.map_or(0, |first| &raw const *first as u64),
                width: 1,
                num_placements,
                vm_id: vm.id(),
                flags: if options.low_latency { DRM_XE_EXEC_QUEUE_LOW_LATENCY_HINT } else { 0 },
                instances: instances.as_ptr() as u64,
                ..Default::default()
            },
        )
        .map(Self)
    }

    /// The driver's number for it, unique on the open file while the queue exists.
    #[must_use]
    pub const fn id(&self) -> u32 {
        self.0.id
    }

    /// Whether the driver gave the queue up, after a hang or a page fault that could not be served. Other queues and the VM go
    /// on; [`Vm::faults`] tells the fault.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::DeviceLost`]; [`ErrorKind::ForeignProcess`].
    #[doc(alias = "DRM_XE_EXEC_QUEUE_GET_PROPERTY_BAN")]
    pub fn is_banned(&self) -> Result<bool> {
        self.0.guard.check(ExecQueueGetProperty::NAME)?;
        let mut arg = ExecQueueGetProperty {
            exec_queue_id: self.0.id,
            property: DRM_XE_EXEC_QUEUE_GET_PROPERTY_BAN,
            ..Default::default()
        };
        // SAFETY: the argument holds no address.
        unsafe { self.0.device.channel().call(&mut arg, Retry::Always) }
            .map_err(|error| explain(error, PROPERTY))?;
        Ok(arg.value != 0)
    }

    pub(super) const fn device(&self) -> &Device {
        &self.0.device
    }

    pub(super) fn check_process(&self, call: &'static str) -> Result<()> {
        self.0.guard.check(call)
    }
}

/// A queue that orders binds of one VM among themselves ([`Syncs::on`](super::Syncs::on)), destroyed on drop.
#[doc(alias = "DRM_XE_ENGINE_CLASS_VM_BIND")]
#[derive(Debug)]
pub struct BindQueue(QueueId);

impl BindQueue {
    /// Creates a bind queue.
    ///
    /// # Errors
    ///
    /// As [`ExecQueue::create`].
    pub fn create(vm: &Vm) -> Result<Self> {
        let instance =
            EngineClassInstance { engine_class: DRM_XE_ENGINE_CLASS_VM_BIND, ..Default::default() };
        QueueId::create(
            vm,
            ExecQueueCreate {
                width: 1,
                num_placements: 1,
                vm_id: vm.id(),
                instances: &raw const instance as u64,
                ..Default::default()
            },
        )
        .map(Self)
    }

    /// The driver's number for it, unique on the open file while the queue exists.
    #[must_use]
    pub const fn id(&self) -> u32 {
        self.0.id
    }
}

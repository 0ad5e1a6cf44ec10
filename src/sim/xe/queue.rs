//! Exec queues.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use super::address_space::{AddressSpace, next_serial};
use super::config::KernelVersion;
use super::node::XeNode;
use super::sync::{Fence, Word, lock};
use crate::error::Errno;
use crate::sim::user_memory::{self, WriteAccess};
use crate::uapi::xe::*;

/// Most unfinished jobs of a queue (`MAX_JOB_COUNT`).
const MAX_JOBS: usize = 1000;
/// Most engines that a queue names (`XE_HW_ENGINE_MAX_INSTANCE`).
const MOST_ENGINES: usize = 9;
/// Most elements in a chain of extensions.
const MAX_EXTENSIONS: usize = 16;
/// Time slices the driver's scheduler takes, in microseconds (`XE_HW_ENGINE_TIMESLICE_MIN`, `_MAX`).
const TIMESLICE_US: std::ops::RangeInclusive<u64> = 1..=10_000_000;

/// Commands to run.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) batch: Option<u64>,
    pub(super) after: Vec<Arc<Fence>>,
    /// The user fence, at a GPU address.
    pub(super) word: Option<Word>,
    /// For what the commands write.
    pub(super) access: WriteAccess,
    pub(super) fence: Arc<Fence>,
}

#[derive(Debug, Default)]
pub(super) struct Jobs {
    pub(super) list: VecDeque<Job>,
    pub(super) stopped: bool,
}

/// A queue of work or of binds.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) vm: Arc<AddressSpace>,
    pub(super) serial: u64,
    class: u16,
    /// The tile of its engines.
    pub(super) tile: u32,
    banned: AtomicBool,
    pub(super) jobs: Mutex<Jobs>,
    pub(super) changed: Condvar,
}

impl Queue {
    pub(super) const fn is_for_binds(&self) -> bool {
        self.class == DRM_XE_ENGINE_CLASS_VM_BIND
    }

    pub(super) fn is_of(&self, vm: &Arc<AddressSpace>) -> bool {
        Arc::ptr_eq(&self.vm, vm)
    }

    pub(super) fn is_banned(&self) -> bool {
        self.banned.load(Ordering::Acquire)
    }

    /// Gives the queue up: what it had left is never done.
    pub(super) fn ban(&self) {
        self.banned.store(true, Ordering::Release);
        lock(&self.jobs).list.clear();
        self.vm.gpu.signaller.wake();
    }

    pub(super) fn stop(&self) {
        let mut jobs = lock(&self.jobs);
        jobs.stopped = true;
        jobs.list.clear();
        drop(jobs);
        self.changed.notify_all();
    }

    /// Takes a job, unless the queue is full.
    pub(super) fn push(&self, job: Job) -> Result<(), Errno> {
        let mut jobs = lock(&self.jobs);
        if jobs.list.len() >= MAX_JOBS {
            return Err(Errno::EAGAIN);
        }
        jobs.list.push_back(job);
        drop(jobs);
        self.changed.notify_all();
        Ok(())
    }

    pub(super) fn is_full(&self) -> bool {
        lock(&self.jobs).list.len() >= MAX_JOBS
    }
}

impl XeNode {
    /// `EXEC_QUEUE_CREATE` (`xe_exec_queue_create_ioctl`).
    pub(super) fn exec_queue_create(&self, arg: &mut ExecQueueCreate) -> Result<(), Errno> {
        if arg.flags & !DRM_XE_EXEC_QUEUE_LOW_LATENCY_HINT != 0 || arg.reserved != [0; 2] {
            return Err(Errno::EINVAL);
        }
        let listed = self.engine_list();
        let count = usize::from(arg.width) * usize::from(arg.num_placements);
        if count == 0 || count > MOST_ENGINES {
            return Err(Errno::EINVAL);
        }
        let instances: Vec<EngineClassInstance> = user_memory::read_array(arg.instances, count)?;
        let first = instances[0];
        if !listed.iter().any(|engine| engine.gt_id == first.gt_id) {
            return Err(Errno::EINVAL);
        }
        let binds = first.engine_class == DRM_XE_ENGINE_CLASS_VM_BIND;
        if binds {
            if arg.width != 1 || arg.num_placements != 1 || first.engine_instance != 0 {
                return Err(Errno::EINVAL);
            }
        } else {
            let same = |engine: &EngineClassInstance| {
                engine.engine_class == first.engine_class && engine.gt_id == first.gt_id
            };
            let known = instances.iter().all(|engine| listed.contains(engine) && same(engine));
            if !known || !are_contiguous(&instances, arg.width.into()) {
                return Err(Errno::EINVAL);
            }
            // Only video engines run one job on several contexts.
            let parallel = matches!(
                first.engine_class,
                DRM_XE_ENGINE_CLASS_VIDEO_DECODE | DRM_XE_ENGINE_CLASS_VIDEO_ENHANCE
            );
            if arg.width > 1 && !parallel {
                return Err(Errno::EOPNOTSUPP);
            }
        }
        let vm = self.vm(arg.vm_id).ok_or(Errno::ENOENT)?;
        if vm.write()?.dead {
            return Err(Errno::ENOENT);
        }
        if !binds {
            check_extensions(arg.extensions)?;
        }
        let queue = Arc::new(Queue {
            vm,
            serial: next_serial(),
            class: first.engine_class,
            tile: u32::from(first.gt_id / 2),
            banned: AtomicBool::new(false),
            jobs: Mutex::new(Jobs::default()),
            changed: Condvar::new(),
        });
        if !binds {
            self.start_engine(&queue)?;
        }
        arg.exec_queue_id = lock(&self.queues).insert(queue);
        Ok(())
    }

    /// `EXEC_QUEUE_DESTROY`.
    pub(super) fn exec_queue_destroy(&self, arg: &mut ExecQueueDestroy) -> Result<(), Errno> {
        if arg.pad != 0 || arg.reserved != [0; 2] {
            return Err(Errno::EINVAL);
        }
        let queue = lock(&self.queues).erase(arg.exec_queue_id).ok_or(Errno::ENOENT)?;
        queue.stop();
        Ok(())
    }

    /// `EXEC_QUEUE_GET_PROPERTY`.
    pub(super) fn exec_queue_get_property(&self, arg: &mut ExecQueueGetProperty) -> Result<(), Errno> {
        if arg.reserved != [0; 2] {
            return Err(Errno::EINVAL);
        }
        let queue = self.queue(arg.exec_queue_id).ok_or(Errno::ENOENT)?;
        if arg.property != DRM_XE_EXEC_QUEUE_GET_PROPERTY_BAN {
            return Err(Errno::EINVAL);
        }
        arg.value = queue.is_banned().into();
        Ok(())
    }

    /// `EXEC_QUEUE_SET_PROPERTY`: the only property that may change later is the priority within a group of queues, and no
    /// queue here is in one.
    pub(super) fn exec_queue_set_property(&self, arg: &mut ExecQueueSetProperty) -> Result<(), Errno> {
        if arg.reserved != [0; 2] || arg.property != DRM_XE_EXEC_QUEUE_SET_PROPERTY_MULTI_QUEUE_PRIORITY {
            return Err(Errno::EINVAL);
        }
        self.queue(arg.exec_queue_id).ok_or(Errno::ENOENT)?;
        Err(Errno::EINVAL)
    }

    /// `EXEC` (`xe_exec_ioctl`).
    pub(super) fn exec(&self, arg: &mut Exec, access: WriteAccess) -> Result<(), Errno> {
        let config = self.gpu.config();
        let too_many = config.since(KernelVersion::V6_19) && arg.num_syncs > DRM_XE_MAX_SYNCS;
        if arg.extensions != 0 || arg.pad != [0; 3] || arg.reserved != [0; 2] || too_many {
            return Err(Errno::EINVAL);
        }
        let queue = self.queue(arg.exec_queue_id).ok_or(Errno::ENOENT)?;
        if queue.is_for_binds() || !matches!(arg.num_batch_buffer, 0 | 1) {
            return Err(Errno::EINVAL);
        }
        if queue.is_banned() {
            return Err(Errno::ECANCELED);
        }
        if queue.is_full() {
            return Err(Errno::EAGAIN);
        }
        let long_running = queue.vm.is_long_running();
        let purpose = super::sync::For { long_running, user_fence_allowed: true, cpu_address: false, access };
        let syncs = super::sync::parse(arg.syncs, arg.num_syncs, purpose, |handle| self.syncobj(handle))?;
        if arg.num_batch_buffer == 0 && long_running {
            return Ok(());
        }
        if queue.vm.write()?.dead {
            return Err(Errno::ECANCELED);
        }
        let fence = Arc::new(Fence::default());
        for (syncobj, point) in syncs.signals {
            match point {
                0 => syncobj.replace(Some(fence.clone())),
                point => syncobj.add_point(point, fence.clone()),
            }
        }
        let batch = (arg.num_batch_buffer == 1).then_some(arg.address);
        queue.push(Job { batch, after: syncs.waits, word: syncs.word, access, fence })
    }
}

/// Whether each of the jobs that run side by side may be placed just behind the one before it
/// (`calc_validate_logical_mask`). The list has all jobs of the first placement, then all of the second.
fn are_contiguous(instances: &[EngineClassInstance], width: usize) -> bool {
    let places = |job: usize| -> u64 {
        let own = instances.iter().skip(job).step_by(width);
        own.fold(0, |mask, engine| mask | 1 << engine.engine_instance)
    };
    (1..width).all(|job| places(job) == places(job - 1) << 1)
}

fn check_extensions(mut address: u64) -> Result<(), Errno> {
    let mut count = 0;
    while address != 0 {
        if count == MAX_EXTENSIONS {
            return Err(Errno::E2BIG);
        }
        count += 1;
        let base: UserExtension = user_memory::read(address)?;
        if base.pad != 0 || base.name != DRM_XE_EXEC_QUEUE_EXTENSION_SET_PROPERTY {
            return Err(Errno::EINVAL);
        }
        let set: ExtSetProperty = user_memory::read(address)?;
        if set.pad != 0 {
            return Err(Errno::EINVAL);
        }
        match set.property {
            DRM_XE_EXEC_QUEUE_SET_PROPERTY_PRIORITY => match set.value {
                0 | 1 => {}
                // High priority is for CAP_SYS_NICE, which a simulated process has not.
                2 => return Err(Errno::EPERM),
                _ => return Err(Errno::EINVAL),
            },
            DRM_XE_EXEC_QUEUE_SET_PROPERTY_TIMESLICE if TIMESLICE_US.contains(&set.value) => {}
            _ => return Err(Errno::EINVAL),
        }
        address = base.next_extension;
    }
    Ok(())
}

//! Serves virtual GPUs to QEMU, and writes the firmware that their drivers ask for.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand, ValueEnum};
use tracing_subscriber::EnvFilter;
use vgpu::board::Board;
use vgpu::device::Device;
use vgpu::function::Function;
use vgpu::inject::Spec;
use vgpu::pci::Peers;
use vgpu::profile::Profile;
use vgpu::transport::{Listener, listen};
use vgpu::{amd, xe};

/// Virtual GPUs for real kernel drivers.
#[derive(Debug, Parser)]
#[command(name = "vgpu")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve one device per socket until QEMU has disconnected from all of them.
    Serve(Serve),
    /// Write the firmware that the driver asks for, as a tree to be put into the guest's file system.
    Firmware {
        /// Whose device.
        #[arg(long, value_enum)]
        gpu: Gpu,
        /// Where `lib/firmware` is created.
        #[arg(long)]
        out: PathBuf,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Gpu {
    /// A Battlemage-like device (8086:e20b).
    Intel,
    /// A Vega 10 (1002:6860) or an MI200 (1002:7408).
    Amd,
}

#[derive(Debug, clap::Args)]
struct Serve {
    /// Whose device.
    #[arg(long, value_enum)]
    gpu: Gpu,
    /// Socket to listen at; once per device. A left-over file is replaced.
    #[arg(long, required = true, num_args = 1..)]
    socket: Vec<PathBuf>,
    /// Comma-separated choices. Intel: vram=SIZE, and tlb, media, ccs, each also with "no-" before it. AMD: mi200 or
    /// vega10, xgmi for a hive of all devices, vram=SIZE, tlb or no-tlb.
    #[arg(long, default_value = "default")]
    profile: String,
    /// Write a trace of the run into this file.
    #[arg(long)]
    trace: Option<PathBuf>,
    /// How much to trace: error, warn, info, debug (messages, jobs, faults), trace (every register access); or per
    /// subject, as in "info,fault=debug,guc=debug".
    #[arg(long, default_value = "info")]
    trace_level: String,
    /// At the end, write what the driver asked for and the model does not know into this file.
    #[arg(long)]
    unknown: Option<PathBuf>,
    /// Trouble on purpose: [DEVICE/]KIND[@NTH][xTIMES][?FILTER][=VALUE]. May be repeated.
    #[arg(long)]
    inject: Vec<Spec>,
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Serve(serve) => run(&serve),
        Command::Firmware { gpu, out } => write_firmware(gpu, &out),
    }
}

fn write_firmware(gpu: Gpu, out: &Path) -> anyhow::Result<()> {
    let files: Vec<(String, Vec<u8>)> = match gpu {
        Gpu::Intel => xe::firmware::blobs().into_iter().map(|b| (b.path.into(), b.bytes)).collect(),
        Gpu::Amd => {
            let files =
                [amd::asic::VEGA10, amd::asic::MI200].into_iter().flat_map(|a| amd::firmware::files(&a));
            files.map(|f| (f.path, f.bytes)).collect()
        }
    };
    for (path, bytes) in files {
        let path = out.join("lib/firmware").join(path);
        let folder = path.parent().unwrap_or(out);
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        std::fs::write(&path, &bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// What the devices of a run have in common.
enum Maker {
    Intel(Profile),
    Amd(amd::Maker),
}

impl Maker {
    fn new(gpu: Gpu, profile: &str, count: usize) -> anyhow::Result<Maker> {
        let wrong = |why: String| anyhow::anyhow!("--profile: {why}");
        Ok(match gpu {
            Gpu::Intel => Maker::Intel(profile.parse().map_err(wrong)?),
            Gpu::Amd => Maker::Amd(amd::Maker::new(profile.parse().map_err(wrong)?, count)?),
        })
    }

    fn device(&self, board: Arc<Board>) -> std::io::Result<Arc<dyn Device>> {
        Ok(match self {
            Maker::Intel(profile) => Arc::new(xe::XeDevice::new(board, profile)?),
            Maker::Amd(maker) => Arc::new(maker.device(board)?),
        })
    }
}

fn run(options: &Serve) -> anyhow::Result<()> {
    if let Some(path) = &options.trace {
        let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
        let filter = EnvFilter::try_new(&options.trace_level).context("trace level")?;
        tracing_subscriber::fmt()
            .with_writer(Arc::new(file))
            .with_env_filter(filter)
            .with_ansi(false)
            .with_timer(tracing_subscriber::fmt::time::uptime())
            .init();
    }
    let count = options.socket.len();
    if let Some(spec) = options.inject.iter().find(|spec| spec.device >= count) {
        bail!("--inject names device {}, but there are {count}", spec.device);
    }
    let maker = Maker::new(options.gpu, &options.profile, count)?;
    let peers = Arc::new(Peers::default());
    let mut devices = Vec::new();
    for (index, path) in options.socket.iter().enumerate() {
        let span = tracing::info_span!("device", index);
        let _entered = span.enter();
        let board = Arc::new(Board::new(index, count, peers.clone()));
        for spec in options.inject.iter().filter(|spec| spec.device == index) {
            board.injector.arm(spec.order);
        }
        let device = maker.device(board.clone()).context("device")?;
        let function = Arc::new(Function::new(board, device));
        if path.exists() {
            std::fs::remove_file(path).with_context(|| format!("cannot replace {}", path.display()))?;
        }
        devices.push((listen(path, function.clone())?, function, span.clone()));
    }
    println!("listening {count}");
    std::io::stdout().flush()?;
    let served = serve_all(&devices);
    if let Some(path) = &options.unknown {
        let mut text = String::new();
        for (_, function, _) in &devices {
            text += &format!("# device {}\n{}", function.board().index, function.device().coverage());
        }
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    served
}

type Served = (Listener, Arc<Function>, tracing::Span);

fn serve_all(devices: &[Served]) -> anyhow::Result<()> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = devices
            .iter()
            .map(|(listener, _, span)| scope.spawn(move || span.in_scope(|| listener.serve())))
            .collect();
        let ended =
            threads.into_iter().map(|t| t.join().unwrap_or_else(|_| bail!("a server thread panicked")));
        ended.collect::<Vec<_>>().into_iter().collect()
    })
}

//! The processes of one training run, connected.

use std::time::Duration;

use anyhow::{Result, bail};
use clap::ValueEnum;
use tempograph_framework::sha256_hex;
use tempograph_trainers::{Exchange, Launch, SingleProcess, connect_tcp};

use crate::setup::device::Device;
use crate::setup::spec::RunSpec;

/// How long a process waits for the others.
const PATIENCE: Duration = Duration::from_secs(120);

/// The transport between processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    /// TCP. Needs no installation.
    Tcp,
    /// MPI, where the program was built with `--features mpi` and started by its `mpirun`.
    Mpi,
    /// NCCL between GPUs, in a build with `--features cuda`.
    Nccl,
}

/// This process among those that were launched.
pub(crate) struct ProcessRank {
    launch: Option<Launch>,
}

impl ProcessRank {
    /// Reads what the launcher has set in the environment.
    ///
    /// # Errors
    /// A variable that is missing or not valid.
    pub fn from_environment() -> Result<ProcessRank> {
        let launch = Launch::read(|name| std::env::var(name).ok()).map_err(anyhow::Error::msg)?;
        Ok(ProcessRank { launch })
    }

    /// Whether this process is the leader: only the leader prints, evaluates and writes.
    pub fn is_leader(&self) -> bool {
        self.launch.as_ref().is_none_or(|launch| launch.rank == 0)
    }

    /// Threads of this process on a machine it shares with others: the number in the spec, or its part of the cores. 0
    /// means all cores.
    pub fn threads(&self, named: usize) -> usize {
        let sharing = self.launch.as_ref().map_or(1, |launch| launch.local_world);
        if named > 0 || sharing == 1 {
            return named;
        }
        (std::thread::available_parallelism().map_or(1, usize::from) / sharing).max(1)
    }

    /// Number of processes, if the launcher sets it; else 1.
    pub fn world_size(&self) -> usize {
        self.launch.as_ref().map_or(1, |launch| launch.world)
    }

    /// The device that the spec names. `cuda` without a number is the GPU of this process on its machine.
    ///
    /// # Errors
    /// A name that is no device.
    /// A name of no device.
    pub fn device(&self, named: &str) -> Result<Device> {
        match &self.launch {
            Some(launch) if named == "cuda" => Device::parse(&format!("cuda:{}", launch.local_rank)),
            _ => Device::parse(named),
        }
    }

    /// Connects to the other processes over `transport`. Without it, the build and the launcher decide.
    ///
    /// # Errors
    /// Processes that do not connect in time or run something else, or a transport this program was built without.
    pub fn connect(
        &self,
        transport: Option<Transport>,
        device: &Device,
        spec: &RunSpec,
        resume: bool,
    ) -> Result<Box<dyn Exchange>> {
        let run = format!("{} resume={resume}\n{}", env!("CARGO_PKG_VERSION"), spec.to_toml()?);
        let run = sha256_hex([run]);
        match (&self.launch, transport.unwrap_or_else(|| suitable(device))) {
            // MPI may have several processes even where no variable says so.
            #[cfg(feature = "mpi")]
            (launch, Transport::Mpi) => {
                let (rank, world) = launch.as_ref().map_or((0, 1), |launch| (launch.rank, launch.world));
                Ok(tempograph_trainers::connect_mpi(rank, world, &run)?)
            }
            (None, Transport::Tcp | Transport::Nccl) => Ok(Box::new(SingleProcess)),
            (Some(launch), Transport::Tcp) => Ok(connect_tcp(launch, &run, PATIENCE)?),
            #[cfg(feature = "cuda")]
            (Some(launch), Transport::Nccl) => match device.gpu() {
                Some(index) => Ok(tempograph_trainers::connect_nccl(launch, index, &run, PATIENCE)?),
                None => bail!(
                    "--transport nccl goes with device = \"cuda\", one GPU a process, not with \"{}\"",
                    spec.device
                ),
            },
            #[allow(unreachable_patterns, reason = "which are left depends on the features")]
            (_, other) => {
                let feature = if other == Transport::Mpi { "mpi" } else { "cuda" };
                bail!(
                    "--transport {}: this program was built without it; build it with `--features {feature}`",
                    other.name()
                )
            }
        }
    }
}

impl Transport {
    fn name(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::Mpi => "mpi",
            Transport::Nccl => "nccl",
        }
    }
}

/// NCCL between processes with a GPU each, MPI under `mpirun`, else TCP.
fn suitable(device: &Device) -> Transport {
    if device.gpu().is_some() {
        return Transport::Nccl;
    }
    #[cfg(feature = "mpi")]
    if std::env::var_os("OMPI_COMM_WORLD_SIZE").is_some() {
        return Transport::Mpi;
    }
    Transport::Tcp
}

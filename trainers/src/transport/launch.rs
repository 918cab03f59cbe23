//! What the launcher sets for this process: its rank, the number of processes, and where they connect.

use std::path::PathBuf;

/// This process among those a launcher started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Which one, from 0.
    pub rank: usize,
    /// How many there are.
    pub world: usize,
    /// Which one on this machine.
    pub local_rank: usize,
    /// How many on this machine.
    pub local_world: usize,
    /// Where the processes connect to each other.
    pub rendezvous: Rendezvous,
}

/// Where processes connect to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rendezvous {
    /// The first process listens there.
    Address {
        /// Name or number of the first process's machine.
        host: String,
        /// Port.
        port: u16,
    },
    /// All are on one machine: the first writes the port it listens on into this file.
    File(PathBuf),
}

impl Launch {
    /// Reads the variables of torchrun (and what follows it), `mpirun` of Open MPI, and Slurm's `srun`, in this order;
    /// `read` is [`std::env::var`] except in tests. None if this process was started alone.
    ///
    /// | launcher | rank, world | where they meet |
    /// |---|---|---|
    /// | torchrun | `RANK`, `WORLD_SIZE`, `LOCAL_RANK`, `LOCAL_WORLD_SIZE` | `MASTER_ADDR`, `MASTER_PORT` (the next port, where torchrun itself listens on that one) |
    /// | mpirun | `OMPI_COMM_WORLD_RANK`, … | `MASTER_ADDR` and `MASTER_PORT`, or on one machine a file in the folder for temporary files |
    /// | srun | `SLURM_PROCID`, `SLURM_STEP_NUM_TASKS`, `SLURM_LOCALID` | `MASTER_ADDR` and `MASTER_PORT`, or the step's first node and a port that follows from the job's number |
    ///
    /// # Errors
    /// A sentence that names a variable that is missing or no number.
    pub fn read(read: impl Fn(&str) -> Option<String>) -> Result<Option<Launch>, String> {
        let known = Variables { read };
        let launch = match () {
            () if known.text("RANK").is_some() && known.text("WORLD_SIZE").is_some() => known.torchrun()?,
            () if known.text("OMPI_COMM_WORLD_SIZE").is_some() => known.open_mpi()?,
            () if known.text("SLURM_STEP_NUM_TASKS").is_some() => known.slurm()?,
            () => return Ok(None),
        };
        if launch.rank >= launch.world {
            return Err(format!("this is said to be process {} of {}, counted from 0", launch.rank, launch.world));
        }
        Ok((launch.world > 1).then_some(launch))
    }
}

struct Variables<F> {
    read: F,
}

impl<F: Fn(&str) -> Option<String>> Variables<F> {
    fn text(&self, name: &str) -> Option<String> {
        (self.read)(name).filter(|text| !text.is_empty())
    }

    fn number(&self, name: &str) -> Result<usize, String> {
        let text = self.text(name).ok_or_else(|| format!("the variable {name} is not set"))?;
        text.parse().map_err(|_| format!("{name} = {text}: it must be a whole number"))
    }

    fn torchrun(&self) -> Result<Launch, String> {
        let (rank, world) = (self.number("RANK")?, self.number("WORLD_SIZE")?);
        let (local_rank, local_world) =
            (self.number("LOCAL_RANK").unwrap_or(0), self.number("LOCAL_WORLD_SIZE").unwrap_or(1));
        let host =
            self.text("MASTER_ADDR").ok_or("the variable MASTER_ADDR is not set: where is the first process?")?;
        let port = self.port()?.ok_or("the variable MASTER_PORT is not set")?;
        let taken = self.text("TORCHELASTIC_USE_AGENT_STORE").is_some_and(|yes| yes == "True");
        let port = if taken { port.wrapping_add(1) } else { port };
        Ok(Launch { rank, world, local_rank, local_world, rendezvous: Rendezvous::Address { host, port } })
    }

    fn open_mpi(&self) -> Result<Launch, String> {
        let of = |name: &str| self.number(&format!("OMPI_COMM_WORLD_{name}"));
        let (rank, world, local_rank, local_world) = (of("RANK")?, of("SIZE")?, of("LOCAL_RANK")?, of("LOCAL_SIZE")?);
        let rendezvous = match self.text("MASTER_ADDR") {
            Some(host) => Rendezvous::Address { host, port: self.port()?.unwrap_or(PORT) },
            None if local_world == world => {
                let job = self.text("PMIX_NAMESPACE").or_else(|| self.text("OMPI_MCA_ess_base_jobid"));
                let job = job.ok_or("neither PMIX_NAMESPACE nor OMPI_MCA_ess_base_jobid is set: is this mpirun?")?;
                let job: String = job.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
                Rendezvous::File(std::env::temp_dir().join(format!("tempograph-{job}.port")))
            }
            None => {
                return Err(format!(
                    "{world} processes on several machines: name the first with `mpirun -x MASTER_ADDR=HOST`"
                ));
            }
        };
        Ok(Launch { rank, world, local_rank, local_world, rendezvous })
    }

    fn slurm(&self) -> Result<Launch, String> {
        let (rank, world, local_rank) =
            (self.number("SLURM_PROCID")?, self.number("SLURM_STEP_NUM_TASKS")?, self.number("SLURM_LOCALID")?);
        // As `4` or `4(x2),3`: how many tasks each node has. Nodes may differ; the first says how many share a machine.
        let tasks = self.text("SLURM_STEP_TASKS_PER_NODE").unwrap_or_default();
        let local_world = tasks.split(['(', ',']).next().and_then(|first| first.parse().ok()).unwrap_or(1);
        let host = match self.text("MASTER_ADDR") {
            Some(host) => host,
            None => first_host(
                &self.text("SLURM_STEP_NODELIST").ok_or("neither MASTER_ADDR nor SLURM_STEP_NODELIST is set")?,
            ),
        };
        let job = self.number("SLURM_JOB_ID").unwrap_or(0);
        let port = self.port()?.unwrap_or(20_000 + (job % 10_000) as u16);
        Ok(Launch { rank, world, local_rank, local_world, rendezvous: Rendezvous::Address { host, port } })
    }

    fn port(&self) -> Result<Option<u16>, String> {
        let text = self.text("MASTER_PORT");
        text.map(|text| text.parse().map_err(|_| format!("MASTER_PORT = {text}: it must be a port"))).transpose()
    }
}

/// The port of the first process, if none is set.
const PORT: u16 = 29_511;

/// The first host of Slurm's `gpu[03-07,12],login1`.
fn first_host(list: &str) -> String {
    let Some((name, rest)) = list.split_once('[').filter(|(name, _)| !name.contains(',')) else {
        return list.split(',').next().unwrap_or(list).to_string();
    };
    format!("{name}{}", rest.split([',', '-', ']']).next().unwrap_or_default())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<Launch>, String> {
        Launch::read(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string()))
    }

    fn address(host: &str, port: u16) -> Rendezvous {
        Rendezvous::Address { host: host.into(), port }
    }

    #[test]
    fn a_process_that_nobody_launched_is_alone() {
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(
            read(&[("RANK", "0"), ("WORLD_SIZE", "1"), ("MASTER_ADDR", "here"), ("MASTER_PORT", "1")]),
            Ok(None)
        );
        // A batch script of Slurm's, in which nothing was started with srun.
        assert_eq!(read(&[("SLURM_PROCID", "0"), ("SLURM_NTASKS", "8"), ("SLURM_JOB_ID", "7")]), Ok(None));
    }

    #[test]
    fn torchruns_variables_are_read_and_its_own_port_is_left_to_it() {
        let own = [("RANK", "3"), ("WORLD_SIZE", "4"), ("LOCAL_RANK", "1"), ("LOCAL_WORLD_SIZE", "2")];
        let there = [&own[..], &[("MASTER_ADDR", "10.0.0.1"), ("MASTER_PORT", "29500")]].concat();
        let launch = read(&there).unwrap().unwrap();
        assert_eq!(
            launch,
            Launch { rank: 3, world: 4, local_rank: 1, local_world: 2, rendezvous: address("10.0.0.1", 29500) }
        );
        let agent = [&there[..], &[("TORCHELASTIC_USE_AGENT_STORE", "True")]].concat();
        assert_eq!(read(&agent).unwrap().unwrap().rendezvous, address("10.0.0.1", 29501));
        assert!(read(&own).unwrap_err().contains("MASTER_ADDR"));
        assert!(
            read(&[&own[1..], &[("RANK", "4"), there[4], there[5]]].concat()).unwrap_err().contains("process 4 of 4")
        );
        assert!(read(&[&own[1..], &[("RANK", "x")]].concat()).unwrap_err().contains("RANK = x"));
    }

    #[test]
    fn mpiruns_processes_meet_in_a_file_on_one_machine_and_by_address_on_several() {
        let of = |local: &'static str| {
            [
                ("OMPI_COMM_WORLD_RANK", "1"),
                ("OMPI_COMM_WORLD_SIZE", "4"),
                ("OMPI_COMM_WORLD_LOCAL_RANK", "1"),
                ("OMPI_COMM_WORLD_LOCAL_SIZE", local),
                ("PMIX_NAMESPACE", "prterun-a/7@1"),
            ]
        };
        let Rendezvous::File(path) = read(&of("4")).unwrap().unwrap().rendezvous else { panic!("it is one machine") };
        assert!(path.ends_with("tempograph-prterun-a-7-1.port"), "{}", path.display());
        assert!(read(&of("2")).unwrap_err().contains("MASTER_ADDR"));
        let named = [&of("2")[..], &[("MASTER_ADDR", "first")]].concat();
        assert_eq!(read(&named).unwrap().unwrap().rendezvous, address("first", PORT));
    }

    #[test]
    fn slurms_processes_meet_on_the_first_node_of_their_step() {
        let launch = read(&[
            ("SLURM_PROCID", "5"),
            ("SLURM_STEP_NUM_TASKS", "6"),
            ("SLURM_LOCALID", "2"),
            ("SLURM_STEP_TASKS_PER_NODE", "3(x2)"),
            ("SLURM_STEP_NODELIST", "gpu[07-08]"),
            ("SLURM_JOB_ID", "123456"),
        ]);
        assert_eq!(
            launch.unwrap().unwrap(),
            Launch { rank: 5, world: 6, local_rank: 2, local_world: 3, rendezvous: address("gpu07", 23456) }
        );
    }

    #[test]
    fn the_first_of_a_list_of_nodes_is_found() {
        let lists = [("gpu[03-07,12],login1", "gpu03"), ("a,b[1-2]", "a"), ("node7", "node7"), ("n[5,9]", "n5")];
        lists.iter().for_each(|(list, first)| assert_eq!(first_host(list), *first));
    }
}

//! Processes with a GPU each, which send each other large messages over NCCL, with the feature `cuda`.
//!
//! They connect over TCP and send small messages that way. TCP also notices when one of them is gone, which NCCL does
//! not.

use std::borrow::Cow;
use std::time::Duration;

use tempograph_kernels::Nccl;

use crate::transport::exchange::{Exchange, ExchangeError};
use crate::transport::launch::Launch;
use crate::transport::mesh::{Mesh, MeshExchange};
use crate::transport::over::tcp::Tcp;

/// Messages of this many bytes and more go over the GPUs.
const LARGE: usize = 1 << 14;

/// Connects to the other processes of `launch`. This one uses the GPU numbered `device`. `run` names the run and is the
/// same for all of them.
///
/// # Errors
/// [`ExchangeError::Rendezvous`] if not all come within `patience`, one runs something else, or there is no NCCL.
pub fn connect_nccl(
    launch: &Launch,
    device: usize,
    run: &str,
    patience: Duration,
) -> Result<Box<dyn Exchange>, ExchangeError> {
    let mut by_tcp = MeshExchange(Tcp::connect(launch, run, patience)?);
    let name =
        if launch.rank == 0 { Nccl::new_group_id().map_err(ExchangeError::Rendezvous)?.to_vec() } else { Vec::new() };
    let name = by_tcp.all_gather(0..launch.world, &name)?.swap_remove(0);
    let name = name.try_into().map_err(|_| ExchangeError::Rendezvous("process 0 has no NCCL".into()))?;
    let link = Nccl::join(device, launch.rank, launch.world, name).map_err(ExchangeError::Rendezvous)?;
    Ok(Box::new(MeshExchange(NcclMesh { link, by_tcp: by_tcp.0 })))
}

/// This process's GPU among the others'.
struct NcclMesh {
    link: Nccl,
    by_tcp: Tcp,
}

impl Mesh for NcclMesh {
    fn rank(&self) -> usize {
        self.by_tcp.rank()
    }

    fn world(&self) -> usize {
        self.by_tcp.world()
    }

    /// First the length of each message, together with small messages; then the large ones.
    fn swap(&mut self, peers: &[usize], outgoing: &[Cow<'_, [u8]>]) -> Result<Vec<Vec<u8>>, ExchangeError> {
        let small = |message: &[u8]| message.len() < LARGE;
        let gathered = outgoing.iter().map(|message| {
            let head = (message.len() as u64).to_le_bytes();
            Cow::from([&head[..], if small(message) { message } else { &[] }].concat())
        });
        let gathered = self.by_tcp.swap(peers, &gathered.collect::<Vec<_>>())?;
        let length = |gathered: &Vec<u8>| gathered.first_chunk().map_or(0, |head| u64::from_le_bytes(*head) as usize);
        let lengths: Vec<usize> = gathered.iter().map(length).collect();
        let large: Vec<usize> = lengths.iter().map(|&length| if length < LARGE { 0 } else { length }).collect();
        let sent: Vec<&[u8]> = outgoing.iter().map(|message| if small(message) { &[][..] } else { message }).collect();
        if large.iter().all(|&length| length == 0) && sent.iter().all(|message| message.is_empty()) {
            return Ok(gathered.into_iter().map(|gathered| gathered[8..].to_vec()).collect());
        }
        let by_tcp = &self.by_tcp;
        let came = self.link.swap(peers, &sent, &large, &|| by_tcp.lost().is_none());
        let came = came.map_err(|why| {
            by_tcp.lost().unwrap_or(ExchangeError::Gone { rank: by_tcp.rank(), world: by_tcp.world(), how: why })
        })?;
        Ok(gathered
            .into_iter()
            .zip(came)
            .map(|(gathered, came)| if came.is_empty() { gathered[8..].to_vec() } else { came })
            .collect())
    }

    fn transport(&self) -> &'static str {
        "nccl"
    }

    fn stop(&mut self, why: &str) {
        self.by_tcp.stop(why);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::SingleProcess;
    use crate::transport::launch::Rendezvous;

    #[test]
    fn one_gpu_by_itself_sums_as_one_process_does() {
        if let Err(why) = tempograph_kernels::gpus() {
            return eprintln!("skipped: {why}");
        }
        if !Nccl::is_installed() {
            return eprintln!("skipped: no NCCL library (libnccl) is installed");
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let rendezvous = Rendezvous::Address { host: "127.0.0.1".into(), port };
        let launch = Launch { rank: 0, world: 1, local_rank: 0, local_world: 1, rendezvous };
        let mut exchange = connect_nccl(&launch, 0, "a run", Duration::from_secs(20)).unwrap();
        let lanes: [Vec<f32>; 3] =
            [1e-3, 1e3, 0.7].map(|scale| (0..50_000).map(|i| scale * (i as f32).sin()).collect());
        let lanes = lanes.each_ref().map(|lane| &lane[..]);
        let (mut sum, mut expected) = (vec![0.0; 50_000], vec![0.0; 50_000]);
        exchange.all_reduce(&lanes, &mut sum).unwrap();
        SingleProcess.all_reduce(&lanes, &mut expected).unwrap();
        assert_eq!(sum, expected);
        assert_eq!(exchange.all_gather(0..1, b"own").unwrap(), [b"own"]);

        // And over the GPU itself: a group of one may send to itself.
        let alone = Nccl::join(0, 0, 1, Nccl::new_group_id().unwrap()).unwrap();
        let message: Vec<u8> = (0..100_000).map(|i| (i % 251) as u8).collect();
        assert_eq!(alone.swap(&[0], &[&message], &[message.len()], &|| true).unwrap(), [message]);
    }
}

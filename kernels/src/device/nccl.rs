//! Transfers of bytes between GPUs over NCCL. The library is loaded on the first call, so a build with the feature also
//! runs on a machine without it.

use std::sync::Arc;
use std::time::Duration;

use cudarc::driver::{CudaContext, CudaStream, DriverError};
use cudarc::nccl::result::NcclError;
use cudarc::nccl::safe::{Comm, Id, group_end, group_start};

/// Time between two polls of a transfer.
const POLL_INTERVAL: Duration = Duration::from_micros(20);

/// A GPU in a group with those of other processes, one each.
pub struct Nccl {
    // Declared before its stream, so it is dropped first: that ends pending transfers.
    comm: Comm,
    stream: Arc<CudaStream>,
}

impl Nccl {
    /// Whether the library is installed.
    pub fn is_installed() -> bool {
        // SAFETY: this only searches the library; the crate marks it `unsafe` because loading any library runs its
        // initialisers.
        unsafe { cudarc::nccl::sys::is_culib_present() }
    }

    /// A name for a new group of GPUs. One process makes it and sends it to the others.
    ///
    /// # Errors
    /// A sentence: no library, or the library's error.
    pub fn new_group_id() -> Result<[u8; 128], String> {
        if !Nccl::is_installed() {
            return Err("no NCCL library (libnccl) is installed".into());
        }
        Ok(Id::new().map_err(nccl_error)?.internal().map(|byte| byte as u8))
    }

    /// Joins the group `name` with the GPU numbered `device`, as `rank` of `world`. Waits for the others.
    ///
    /// # Errors
    /// A sentence: no library, no such GPU, or the error of one of them.
    pub fn join(device: usize, rank: usize, world: usize, name: [u8; 128]) -> Result<Nccl, String> {
        if !Nccl::is_installed() {
            return Err("no NCCL library (libnccl) is installed".into());
        }
        let stream = CudaContext::new(device).and_then(|context| context.new_stream()).map_err(cuda_error)?;
        let id = Id::uninit(name.map(|byte| byte as std::ffi::c_char));
        let comm = Comm::from_rank(stream.clone(), rank, world, id).map_err(nccl_error)?;
        Ok(Nccl { comm, stream })
    }

    /// Sends each of `peers` its part of `outgoing` and receives `incoming` bytes from each, over the GPUs.
    /// `keep_waiting` is polled and says whether to wait longer.
    ///
    /// # Errors
    /// A sentence with the library's error, or that waiting was cancelled. The group is then unusable.
    pub fn swap(
        &self,
        peers: &[usize],
        outgoing: &[&[u8]],
        incoming: &[usize],
        keep_waiting: &dyn Fn() -> bool,
    ) -> Result<Vec<Vec<u8>>, String> {
        let stream = &self.stream;
        let upload = |bytes: &&[u8]| if bytes.is_empty() { Ok(None) } else { stream.clone_htod(*bytes).map(Some) };
        let sent = outgoing.iter().map(upload).collect::<Result<Vec<_>, _>>().map_err(cuda_error)?;
        let room = |&bytes: &usize| if bytes == 0 { Ok(None) } else { stream.alloc_zeros::<u8>(bytes).map(Some) };
        let mut came = incoming.iter().map(room).collect::<Result<Vec<_>, _>>().map_err(cuda_error)?;
        group_start().map_err(nccl_error)?;
        for ((&peer, sent), came) in peers.iter().zip(&sent).zip(&mut came) {
            if let Some(sent) = sent {
                self.comm.send(sent, peer as i32).map_err(nccl_error)?;
            }
            if let Some(came) = came {
                self.comm.recv(came, peer as i32).map_err(nccl_error)?;
            }
        }
        group_end().map_err(nccl_error)?;
        let done = stream.record_event(None).map_err(cuda_error)?;
        while !done.is_complete() {
            if !keep_waiting() {
                return Err("a transfer was given up".into());
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        came.iter()
            .map(|came| came.as_ref().map_or(Ok(Vec::new()), |came| stream.clone_dtoh(came)))
            .collect::<Result<_, _>>()
            .map_err(cuda_error)
    }
}

fn cuda_error(error: DriverError) -> String {
    format!("the CUDA driver says: {error}")
}

fn nccl_error(error: NcclError) -> String {
    format!("NCCL says: {:?}", error.0)
}

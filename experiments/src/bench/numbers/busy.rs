//! Kernel launches, and how much of the time a device computed.

use std::io::Read;
use std::process::{Child, Command, Stdio};

use crate::setup::device::Device;

/// Kernels launched since the program began; 0 in a build without devices.
pub(crate) fn launches() -> u64 {
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    return tempograph_kernels::cube::launches();
    #[cfg(not(any(feature = "cuda", feature = "wgpu")))]
    0
}

/// Samples the utilisation of a GPU during a run, with its driver's tool.
pub(crate) struct GpuUtilisation(Child);

impl GpuUtilisation {
    /// Starts sampling `device`. None if it is not one GPU, or if its driver's tool is missing.
    pub fn watch(device: &Device) -> Option<GpuUtilisation> {
        let mut command = Command::new("nvidia-smi");
        command.args(["--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--loop-ms=200", "--id"]);
        command.arg(device.gpu()?.to_string()).stdout(Stdio::piped()).stderr(Stdio::null());
        command.spawn().ok().map(GpuUtilisation)
    }

    /// The mean of all samples, 0 to 1. None without samples.
    pub fn share(mut self) -> Option<f64> {
        self.0.kill().ok()?;
        let mut text = String::new();
        self.0.stdout.take()?.read_to_string(&mut text).ok()?;
        self.0.wait().ok()?;
        mean_percent(&text)
    }
}

/// The mean of the percentages in the lines, as a share.
fn mean_percent(text: &str) -> Option<f64> {
    let samples: Vec<f64> = text.lines().filter_map(|line| line.trim().parse().ok()).collect();
    (!samples.is_empty()).then(|| samples.iter().sum::<f64>() / (100 * samples.len()) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_means_of_what_the_tool_says_and_nothing_where_it_says_none() {
        assert_eq!(mean_percent("90\n 100\n80\n"), Some(0.9));
        assert_eq!((mean_percent(""), mean_percent("[N/A]\n")), (None, None));
    }
}

//! NVIDIA GPUs, through the driver's management library.

use super::check::Check;
use crate::gpu::nvml;

const NAME: &str = "GPU";

/// Having none is as it should be on most machines.
pub(super) fn check() -> Check {
    let devices = match nvml::Devices::open() {
        Ok(devices) => devices,
        Err(error) => {
            tracing::debug!("NVML: {error}");
            return Check::ok(NAME, "none, or no NVIDIA driver");
        }
    };
    let driver = &devices.driver;
    match &devices.read(&[])[..] {
        [] => Check::ok(NAME, format!("none (driver {driver})")),
        [device] => Check::ok(NAME, format!("{} (driver {driver})", device.name)),
        [first, ..] => {
            let count = devices.count();
            Check::ok(NAME, format!("{count}, the first {} (driver {driver})", first.name))
        }
    }
}

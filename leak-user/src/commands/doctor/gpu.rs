//! NVIDIA GPUs, through the driver's management library.

use nvml_wrapper::Nvml;

use super::check::Check;

const NAME: &str = "GPU";

/// Having none is as it should be on most machines.
pub(super) fn check() -> Check {
    let found = Nvml::init().and_then(|nvml| {
        let count = nvml.device_count()?;
        let first = if count > 0 { nvml.device_by_index(0)?.name()? } else { String::new() };
        Ok((count, first, nvml.sys_driver_version()?))
    });
    match found {
        Ok((0, _, driver)) => Check::ok(NAME, format!("none (driver {driver})")),
        Ok((1, name, driver)) => Check::ok(NAME, format!("{name} (driver {driver})")),
        Ok((count, name, driver)) => {
            Check::ok(NAME, format!("{count}, the first {name} (driver {driver})"))
        }
        Err(error) => {
            tracing::debug!("NVML: {error}");
            Check::ok(NAME, "none, or no NVIDIA driver")
        }
    }
}

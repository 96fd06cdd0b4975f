//! Whether the kernel takes the programs as an observation of a process would load them.

use super::{Native, SessionError, open};
use crate::{
    probe::{
        object::{self, Capacity},
        plan::{self, Returns},
        verifier::Verified,
    },
    target::Target,
};

/// Has the kernel verify them all, and says what each took. The target is not touched.
///
/// # Errors
/// [`SessionError`] where one is refused.
pub fn verify(target: &Target) -> Result<Vec<Verified>, SessionError> {
    let plan = plan::plan(target, Returns::harmless(target.pid))?;
    let config = open::config(target, &plan, Native::Top)?;
    Ok(object::load(&config, Capacity::BURSTS, false)?.verified()?)
}

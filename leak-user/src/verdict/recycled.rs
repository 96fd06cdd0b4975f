//! Objects that change owners behind the allocator's back.
//!
//! CPython keeps dead objects of some types on free lists and hands them out again without a call of the
//! allocator. So what one line keeps may stay booked on the churning line that allocated it first. What is
//! not recycled (strings, instances, bodies of lists) tells the two apart: a line that keeps a float or a
//! list mostly keeps some of that too.

use super::accuse::Case;
use super::words::{bytes, percent};

/// Where so much of what stays is of such types, that it stays is weak evidence against its line.
const WEAK: f64 = 0.9;

/// How much less sure an accusation is that rests on weak evidence alone.
const DOUBT: f64 = 0.5;

/// The accused, and those that were handed free: sites of which only recycled objects stay, where there are
/// others that may hold them. Where there are none, they stay accused, and less surely.
pub fn set_apart(accused: Vec<Case>) -> (Vec<Case>, Vec<Case>) {
    let (mut weak, mut strong): (Vec<Case>, Vec<Case>) =
        accused.into_iter().partition(|case| case.recycled >= WEAK);
    if strong.is_empty() {
        for case in &mut weak {
            case.finding.confidence *= DOUBT;
            case.finding.reasons.push(reason(case));
        }
        strong.append(&mut weak);
    }
    for case in &mut weak {
        case.acquit(reason(case));
    }
    (strong, weak)
}

/// What the whole observation's reasons say of those that were set apart.
pub fn remark(handed_on: &[Case]) -> Option<String> {
    let growth: f64 = handed_on.iter().map(|case| case.finding.growth.value).sum();
    (growth > 0.0).then(|| {
        format!(
            "{} a second more are objects that Python hands from line to line without the allocator \
             (floats, lists, dicts, tuples): an accused line may keep them",
            bytes(growth)
        )
    })
}

fn reason(case: &Case) -> String {
    format!(
        "{} of what stays are objects that Python hands on without the allocator when they die (floats, \
         lists, dicts, tuples): another line may keep them",
        percent(case.recycled)
    )
}

//! Objects that change owners behind the allocator's back.
//!
//! CPython keeps dead objects of some types on free lists and hands them out again without a call of the
//! allocator. So what one line keeps may stay booked on the churning line that allocated it first. What is
//! not recycled (strings, instances, bodies of lists) tells the two apart: a line that keeps a float or a
//! list mostly keeps some of that too.

use super::accuse::Case;
use super::evidence::Domain;
use super::words::{bytes, percent};

/// Where so much of what stays is of such types, that it stays is weak evidence against its line.
pub const WEAK: f64 = 0.9;

/// How much less sure an accusation is that rests on weak evidence alone.
const DOUBT: f64 = 0.5;

/// What keeps an object has at least a pointer to it.
const POINTER: f64 = 8.0;

/// The accused, and those that were handed free: sites of which only recycled objects stay, where there are
/// others that may hold them, among the accused or in what grows and is not explained (`unexplained`, bytes a second).
/// Where those don't grow enough to hold so many, or hold no objects, the site stays accused, and less surely.
pub fn set_apart(accused: Vec<Case>, unexplained: f64) -> (Vec<Case>, Vec<Case>) {
    let (weak, mut strong): (Vec<Case>, Vec<Case>) =
        accused.into_iter().partition(|case| case.recycled >= WEAK);
    let room = unexplained + holders(&strong);
    let mut handed_on = Vec::new();
    for mut case in weak {
        if POINTER * case.finding.blocks_per_s <= room {
            case.acquit(reason(&case));
            handed_on.push(case);
        } else {
            case.finding.confidence *= DOUBT;
            case.finding.reasons.push(reason(&case));
            strong.push(case);
        }
    }
    hand_over(&handed_on, &mut strong);
    (strong, handed_on)
}

/// Where nobody else is accused, those that are sure but small answer for what was handed on: they may keep it, and
/// nobody is known who does if not they. The others are given back.
pub fn answer_for(handed_on: &[Case], others: Vec<Case>, least: f64) -> (Vec<Case>, Vec<Case>) {
    let may_keep = |case: &Case| case.finding.domain <= Domain::Malloc && case.is_part(least);
    let (mut keepers, others): (Vec<Case>, Vec<Case>) =
        others.into_iter().partition(|case| !handed_on.is_empty() && may_keep(case));
    keepers.iter_mut().for_each(|case| case.objections.clear());
    hand_over(handed_on, &mut keepers);
    (keepers, others)
}

/// What the accused that can hold objects grow by, bytes a second.
fn holders(accused: &[Case]) -> f64 {
    let holders = accused.iter().filter(|case| case.finding.domain <= Domain::Malloc);
    holders.map(|case| case.finding.growth.value).sum()
}

/// What was handed on, the accused hold: each by what it grows, as far as anybody can tell.
fn hand_over(handed_on: &[Case], accused: &mut [Case]) {
    let growth: f64 = handed_on.iter().map(|case| case.finding.growth.value).sum();
    let blocks: f64 = handed_on.iter().map(|case| case.finding.blocks_per_s).sum();
    let all = holders(accused);
    if growth <= 0.0 || all <= 0.0 {
        return;
    }
    let holders = accused.iter_mut().filter(|case| case.finding.domain <= Domain::Malloc);
    for finding in holders.map(|case| &mut case.finding) {
        let part = finding.growth.value / all;
        finding.reasons.push(format!(
            "its growth counts {} a second of objects that Python handed on to it or to others, and that other lines \
             had allocated",
            bytes(part * growth)
        ));
        finding.add(part * growth, part * blocks);
        finding.growth.high += (1.0 - part) * growth;
    }
}

/// What the whole observation's reasons say of those that were set apart.
pub fn remark(handed_on: &[Case], accused: &[Case]) -> Option<String> {
    let growth: f64 = handed_on.iter().map(|case| case.finding.growth.value).sum();
    let whose = if holders(accused) > 0.0 {
        "they are counted to those that may keep them"
    } else {
        "other lines than those that allocated them may keep them"
    };
    (growth > 0.0).then(|| {
        format!(
            "{} a second are objects that Python hands from line to line without the allocator (floats, lists, dicts, \
             tuples): {whose}",
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

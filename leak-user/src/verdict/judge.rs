//! The whole observation: leak, no leak, or neither shown.

use super::accuse::{Case, Court, UNACCUSED_CONFIDENCE};
use super::evidence::{Domain, Evidence};
use super::share::{self, Pot};
use super::words::{bytes, number, percent, plural, rate, seconds};
use super::{Estimate, Finding, Judgement, Trend, Verdict, lines, recycled, stats, trend};

/// A shorter observation accuses nobody: blocks have no time to grow old.
pub const MIN_DURATION_S: f64 = 4.0;

/// To be cleared takes so many seconds, and bursts: what was not looked for was not found. Where all that is counted
/// stands still, nobody need be looked for.
pub const CLEAR_DURATION_S: f64 = 8.0;
const CLEAR_BURSTS: u32 = 5;

/// With less of the allocations seen, those that were may be of the wrong lines.
const MIN_SEEN: f64 = 0.3;

/// With less seen, "nothing stays" is no finding.
const CLEAR_SEEN: f64 = 0.5;

/// Growth of one of 32 classes that no site explains must be clearer than one that a site
/// explains: one in 4,000 by chance.
const UNEXPLAINED_Z: f64 = 3.5;

/// Resident memory that surely rose by this many times what it wiggles has grown.
const FAR: f64 = 4.0;

/// Where the size of the process is not known.
const STEEP_UNKNOWN: f64 = 65_536.0;

/// Smallest part of the growth that is named with what it is a part of: a few blocks that took the place of a site's dead
/// make a smaller one.
const MIN_PART: f64 = 0.01;

/// Most sites that are listed beside the accused.
const MAX_OTHERS: usize = 50;

/// Judges an observation.
#[must_use]
pub fn judge(evidence: &Evidence) -> Judgement {
    let duration_s =
        if evidence.duration_s.is_finite() { evidence.duration_s.max(0.0) } else { 0.0 };
    let steep_from = steep_from(evidence);
    let pots = share::pots(evidence, steep_from);
    let growing = pots.iter().filter(|pot| pot.grows);
    let court = Court {
        evidence,
        duration_s,
        pots: &pots,
        total_growth: growing.map(|pot| pot.growth().value).sum(),
        steep_from,
        seen: seen(evidence),
    };
    let too_little = too_little_to_accuse(&court);
    let (accused, mut others): (Vec<Case>, Vec<Case>) = lines::together(&court)
        .into_iter()
        .partition(|case| case.is_accused() && too_little.is_none());

    let whole = Whole::of(&court, &accused);
    let (mut accused, handed_on) = recycled::set_apart(accused, whole.unexplained);
    let least = MIN_PART * court.total_growth;
    if accused.is_empty() && too_little.is_none() {
        (accused, others) = recycled::answer_for(&handed_on, others, least);
    }
    // What nobody explains, or counts, may be anybody's.
    let beyond = whole.unexplained + (whole.resident.value - court.total_growth).max(0.0);
    accused.iter_mut().for_each(|case| case.finding.growth.high += beyond);
    let (verdict, mut reasons) = whole.verdict(&court, &accused, too_little);
    reasons.extend(recycled::remark(&handed_on, &accused));
    others.extend(handed_on);
    let (small, others) =
        others.into_iter().partition(|case| case.is_part(least) && verdict == Verdict::Leak);
    Judgement {
        verdict,
        reasons,
        accused: worst_first(accused),
        small: worst_first(small),
        others: largest_first(others),
        growth: whole.resident,
        counted_growth: court.total_growth,
        unexplained: whole.unexplained,
    }
}

fn steep_from(evidence: &Evidence) -> f64 {
    let resident = stats::median(evidence.rss.points.iter().map(|p| p.1));
    resident.map_or(STEEP_UNKNOWN, trend::steep_from)
}

/// How much of what happened was seen, 0 to 1: the coverage (a ratio above 1 is off by as much as
/// its inverse), less the records that were lost.
fn seen(evidence: &Evidence) -> f64 {
    let coverage = match evidence.coverage {
        Some(ratio) if ratio > 1.0 => 1.0 / ratio,
        Some(ratio) if ratio >= 0.0 => ratio,
        Some(_) => 0.0,
        None => 1.0,
    };
    let classes = evidence.sites.iter().flat_map(|site| &site.classes);
    let recorded: f64 = classes.map(|class| class.allocations).filter(|n| n.is_finite()).sum();
    let lost = evidence.lost as f64;
    if lost > 0.0 { coverage * recorded / (recorded + lost) } else { coverage }
}

fn too_little_to_accuse(court: &Court<'_>) -> Option<String> {
    if court.duration_s < MIN_DURATION_S {
        return Some(format!(
            "{} of observation are too short to tell what stays; at least {} are needed",
            seconds(court.duration_s),
            seconds(MIN_DURATION_S),
        ));
    }
    (court.seen < MIN_SEEN).then(|| {
        format!(
            "only {} of the allocations could be seen, too few to blame a line",
            percent(court.seen)
        )
    })
}

fn worst_first(cases: Vec<Case>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = cases.into_iter().map(|case| case.finding).collect();
    let weight = |finding: &Finding| finding.growth.value * finding.confidence;
    findings.sort_by(|a, b| weight(b).total_cmp(&weight(a)).then(a.site.cmp(&b.site)));
    findings
}

fn largest_first(cases: Vec<Case>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = cases.into_iter().map(|case| case.finding).collect();
    findings.sort_by(|a, b| b.live_bytes.cmp(&a.live_bytes).then(a.site.cmp(&b.site)));
    for finding in &mut findings {
        finding.confidence = finding.confidence.min(UNACCUSED_CONFIDENCE);
    }
    findings.truncate(MAX_OTHERS);
    findings
}

/// What is known of the process as a whole.
struct Whole {
    /// Growth of resident memory.
    resident: Estimate,
    /// It grows by enough to matter.
    resident_grows: bool,
    /// Growth of live small blocks, in blocks and in bytes a second.
    small_blocks: Option<Estimate>,
    small_bytes: Option<Estimate>,
    small_grows: bool,
    /// One of them grew, and stopped.
    stopped: bool,
    /// One of them, or a pot, grew in steps, and may go on.
    paused: bool,
    /// Nothing that is counted can have grown by what matters, by the upper bounds.
    still: bool,
    /// Growth of the pots that no accused site accounts for, bytes a second.
    unexplained: f64,
}

impl Whole {
    fn of(court: &Court<'_>, accused: &[Case]) -> Self {
        let course = |points: &[(f64, f64)]| trend::course(points, court.steep_from);
        let resident = course(&court.evidence.rss.points);
        let resident = resident.as_ref();
        let small = course(&share::small_live_bytes(court.evidence).points);
        let small = small.as_ref();
        let blocks = course(&share::small_live_blocks(court.evidence).points);
        let grows = |course: Option<&trend::Course>, floor| {
            course.is_some_and(|course| {
                course.slope.z >= UNEXPLAINED_Z && share::matters(course, floor)
            })
        };
        let unexplained = court
            .pots
            .iter()
            .enumerate()
            .filter(|(_, pot)| pot.grows && pot.course.slope.z >= UNEXPLAINED_Z)
            .map(|(i, pot)| pot.growth().value * (1.0 - explained(i, accused)))
            .sum();
        Self {
            resident: resident.map(|resident| resident.slope.per_s).unwrap_or_default(),
            resident_grows: grows(resident, share::RESIDENT_FLOOR)
                || resident.is_some_and(grows_by_far),
            small_blocks: blocks.map(|blocks| blocks.slope.per_s),
            small_bytes: small.map(|small| small.slope.per_s),
            small_grows: grows(small, share::PYMALLOC_FLOOR),
            stopped: [small, resident]
                .iter()
                .any(|course| course.is_some_and(|course| course.trend == Trend::Saturated)),
            paused: court.pots.iter().any(|pot| pot.paused)
                || resident.is_some_and(|course| share::is_paused(course, share::RESIDENT_FLOOR))
                || small.is_some_and(|course| share::is_paused(course, share::PYMALLOC_FLOOR)),
            still: court
                .pots
                .iter()
                .all(|pot| share::is_still(&pot.course, share::floor(pot.domain)))
                && resident.is_some_and(|course| share::is_still(course, share::RESIDENT_FLOOR))
                && small.is_none_or(|course| share::is_still(course, share::PYMALLOC_FLOOR)),
            unexplained,
        }
    }

    fn verdict(
        &self,
        court: &Court<'_>,
        accused: &[Case],
        too_little: Option<String>,
    ) -> (Verdict, Vec<String>) {
        let mut reasons: Vec<String> = too_little.into_iter().collect();
        if !accused.is_empty() {
            reasons.push(format!(
                "{} {} what {} allocated, and memory grows by it",
                plural(accused.len(), "site"),
                if accused.len() == 1 { "keeps" } else { "keep" },
                if accused.len() == 1 { "it" } else { "they" },
            ));
            reasons.extend(self.measured(court));
            reasons.extend(what_was_missed(court));
            return (Verdict::Leak, reasons);
        }
        reasons.extend(not_enough_to_clear(court));
        let few = too_few_bursts(court);
        reasons.extend(few.filter(|_| !self.still).map(|few| {
            format!(
                "only {} saw allocations; at least {CLEAR_BURSTS} are needed",
                plural(few, "burst")
            )
        }));
        if self.unexplained > 0.0 {
            reasons.push(format!(
                "memory grows by {} a second and no site explains it",
                bytes(self.unexplained)
            ));
        } else if self.small_grows || self.resident_grows {
            reasons.push("memory grows and no site explains it".to_owned());
        }
        if self.paused {
            reasons.push(
                "memory grew in steps: its growth stopped and went on before, so that a pause at the \
                 end is no end; a longer observation may show whether it goes on"
                    .to_owned(),
            );
        }
        let verdict = if reasons.is_empty() { Verdict::NoLeak } else { Verdict::Inconclusive };
        if verdict == Verdict::NoLeak {
            reasons.push(format!(
                "memory {}, and none of {} keeps what it allocates while memory grows",
                if self.stopped { "grew and stopped" } else { "does not grow" },
                plural(court.evidence.sites.len(), "site"),
            ));
            reasons.extend(few.map(|few| match few {
                0 => "no burst saw allocations, and none had to: nothing that is counted grows".into(),
                few => format!(
                    "only {} saw allocations, too few to name a line; but nothing that is counted grows",
                    plural(few, "burst")
                ),
            }));
        }
        reasons.extend(self.measured(court));
        if verdict == Verdict::NoLeak {
            reasons.push(format!(
                "a leak in the C heap slower than {} a second would not have shown in {}",
                bytes(share::RESIDENT_FLOOR / court.duration_s),
                seconds(court.duration_s),
            ));
        }
        reasons.extend(what_was_missed(court));
        (verdict, reasons)
    }

    fn measured(&self, court: &Court<'_>) -> Vec<String> {
        let moves = |grows: bool| if grows { "grow" } else { "move" };
        let mut reasons = Vec::new();
        if let (Some(blocks), Some(size)) = (self.small_blocks, self.small_bytes) {
            reasons.push(format!(
                "live small blocks {} by {}, that is {} a second",
                moves(self.small_grows),
                rate(blocks, number),
                bytes(size.value),
            ));
        }
        for pot in court.pots.iter().filter(|pot| pot.grows && pot.domain != Domain::Pymalloc) {
            reasons.push(format!("{} by {}", name(pot), rate(pot.growth(), bytes)));
        }
        if !court.evidence.rss.points.is_empty() {
            reasons.push(format!(
                "resident memory {}s by {}",
                moves(self.resident_grows),
                rate(self.resident, bytes)
            ));
        }
        reasons
    }
}

/// Whatever the ranks say: the lower bound alone is more than resident memory ever wiggles.
fn grows_by_far(resident: &trend::Course) -> bool {
    let least = resident.slope.per_s.low * (resident.to_s - resident.from_s);
    resident.trend == Trend::Flat && least >= FAR * share::RESIDENT_FLOOR
}

fn name(pot: &Pot) -> &'static str {
    match pot.domain {
        Domain::Pymalloc => "small blocks grow",
        Domain::Malloc => "the C heap grows",
        Domain::Mmap => "anonymous mappings grow",
        Domain::Cuda => "memory that GPU calls handed out grows",
        Domain::Torch => "memory of torch's tensors grows",
    }
}

/// The part of a pot's growth that the accused account for.
fn explained(pot: usize, accused: &[Case]) -> f64 {
    let shares = accused.iter().flat_map(|case| &case.shares);
    shares.filter(|share| share.pot == pot).map(|share| share.fraction.value).sum::<f64>().min(1.0)
}

fn has_small_blocks(evidence: &Evidence) -> bool {
    evidence.pymalloc_bursts > 0 || !evidence.pymalloc_classes.is_empty()
}

/// How many bursts there were, where they saw too little to find who keeps what it allocates.
fn too_few_bursts(court: &Court<'_>) -> Option<usize> {
    let evidence = court.evidence;
    let bursts =
        if has_small_blocks(evidence) { evidence.pymalloc_bursts } else { evidence.malloc_bursts };
    (bursts < CLEAR_BURSTS).then_some(bursts as usize)
}

/// Why the observation cannot say that there is no leak, but for too few bursts.
fn not_enough_to_clear(court: &Court<'_>) -> Vec<String> {
    let evidence = court.evidence;
    let mut missing = Vec::new();
    if (MIN_DURATION_S..CLEAR_DURATION_S).contains(&court.duration_s) {
        missing.push(format!(
            "{} of observation are too short to rule a leak out; at least {} are needed",
            seconds(court.duration_s),
            seconds(CLEAR_DURATION_S),
        ));
    }
    let small_blocks = has_small_blocks(evidence);
    let counted = |domain| court.pots.iter().any(|pot: &Pot| pot.domain == domain);
    if small_blocks && !counted(Domain::Pymalloc) {
        missing.push("the live small blocks were counted too few times to see a trend".to_owned());
    }
    if trend::course(&evidence.rss.points, court.steep_from).is_none() {
        missing.push("resident memory was measured too few times to see a trend".to_owned());
    }
    if (MIN_SEEN..CLEAR_SEEN).contains(&court.seen) {
        missing.push(format!("only {} of the allocations could be seen", percent(court.seen)));
    }
    missing
}

/// What was not seen although the verdict stands.
fn what_was_missed(court: &Court<'_>) -> Option<String> {
    let lost = court.evidence.lost;
    (lost > 0).then(|| format!("{} were lost in the kernel", plural(lost as usize, "record")))
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;

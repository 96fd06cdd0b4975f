//! Reports for the tests of the outputs. The first one is a file, so that a person can read it.

use crate::snapshot::gpu;
use crate::snapshot::{
    NotAttached, OtherProgram, ProcessReport, Snapshot, Tree, TreeMember, Verdict,
};

/// One accused line in a web service.
pub(crate) fn leak() -> Snapshot {
    serde_json::from_str(include_str!("../golden/leak.json")).expect("the example is a report")
}

/// Two leaks, of one of which a second line is a part, the other of the C heap, and RSS that does not show it yet.
fn two_leaks() -> Snapshot {
    let mut snapshot = leak();
    let mut part = snapshot.leaks[0].clone();
    part.rank = 3;
    part.growth_bytes_per_s = 9_300.0;
    part.stack.drain(..1);
    let mut second = snapshot.leaks[0].clone();
    (second.rank, second.finding) = (2, 2);
    second.confidence = 0.74;
    second.domain = "malloc".to_owned();
    second.trend = "slow".to_owned();
    (second.growth_bytes_per_s, second.growth_interval) = (14_200.0, (2_100.0, 26_300.0));
    second.types.clear();
    second.retained_by.clear();
    second.stack.drain(..2);
    snapshot.leaks.extend([second, part]);
    snapshot.memory.growth_bytes_per_s = 20_480.0;
    snapshot.memory.limit_bytes = None;
    snapshot.memory.growth_interval = (-40_960.0, 81_920.0);
    snapshot
}

/// The line of which too little was seen to accuse it.
fn suspected(snapshot: &mut Snapshot) {
    let suspect = &mut snapshot.sites[0];
    suspect.growth_bytes_per_s = 21_300.0;
    suspect.trend = "slow".to_owned();
    suspect.lacks = Some(
        "its old blocks that are still alive come from 2 bursts only; fewer than 3 may be chance"
            .to_owned(),
    );
}

/// A training loop that keeps tensors, on a device that is full now and then.
fn gpu() -> Snapshot {
    let mut snapshot = leak();
    let site = &mut snapshot.leaks[0];
    site.domain = "torch".to_owned();
    (site.memory, site.device) = (Some("tensor".to_owned()), Some(0));
    site.types.clear();
    let stack = site.stack.clone();
    let memory = |kind: &str, live: u64, count, failures| gpu::Memory {
        kind: kind.to_owned(),
        live_bytes: live << 20,
        live_count: count,
        allocations: 10 * count,
        allocated_bytes: 10 * (live << 20),
        frees: 9 * count,
        freed_bytes: 9 * (live << 20),
        failures,
        unreached: 0,
    };
    let failure = gpu::Failure {
        at_s: 12.25,
        call: "torch's allocator".to_owned(),
        memory: "tensor".to_owned(),
        size_bytes: 20 << 30,
        free_bytes: vec![3 << 30],
        torch_allocated_bytes: Some(70 << 30),
        torch_reserved_bytes: Some(74 << 30),
        stack: stack.clone(),
        holders: vec![gpu::Holder { bytes: 41 << 30, count: 1_200, stack }],
    };
    snapshot.gpu = Some(gpu::Gpu {
        driver: Some("580.159.04".to_owned()),
        devices: vec![gpu::Device {
            index: 0,
            name: "NVIDIA H200".to_owned(),
            in_parts: false,
            total_bytes: 140 << 30,
            used_bytes: 80 << 30,
            used_at_first_bytes: 60 << 30,
            process_bytes: Some(76 << 30),
        }],
        memory: vec![memory("device", 512, 26, 0), memory("tensor", 480, 1_200, 3)],
        torch: vec![gpu::TorchPool {
            device: 0,
            allocated_bytes: 70 << 30,
            reserved_bytes: 74 << 30,
        }],
        tensors_watched: Some(0.12),
        growth_bytes_per_s: 0.0,
        tensor_growth_bytes_per_s: 1e6,
        failures: vec![failure],
        failed: 3,
    });
    snapshot
}

/// A service that is well.
pub(crate) fn no_leak() -> Snapshot {
    let mut snapshot = leak();
    snapshot.verdict = Verdict::NoLeak;
    snapshot.leaks.clear();
    snapshot.reasons = vec![
        "memory does not grow, and none of 212 sites keeps what it allocates while memory grows"
            .to_owned(),
        "resident memory moves by 1.00 KiB a second (95 %: -12.0 KiB to 14.0 KiB)".to_owned(),
    ];
    snapshot.memory.growth_bytes_per_s = 1_024.0;
    snapshot.memory.limit_bytes = None;
    snapshot.memory.growth_interval = (-12_288.0, 14_336.0);
    snapshot.losses = crate::snapshot::Losses::default();
    snapshot
}

/// Growth that no line explains, over budget, badly covered.
fn inconclusive() -> Snapshot {
    let mut snapshot = no_leak();
    snapshot.verdict = Verdict::Inconclusive;
    snapshot.reasons = vec![
        "memory grows by 30.0 KiB a second and no site explains it".to_owned(),
        "resident memory grows by 30.0 KiB a second (95 %: 1.00 KiB to 60.0 KiB)".to_owned(),
    ];
    snapshot.memory.growth_bytes_per_s = 30_720.0;
    snapshot.memory.growth_interval = (1_024.0, 61_440.0);
    (snapshot.overhead.spent, snapshot.overhead.of_own_work) = (0.0134, 0.0134);
    snapshot.coverage.pymalloc = Some(0.71);
    snapshot.losses.ring_full = 1_204;
    snapshot.losses.map_full = 12;
    snapshot.target.allocator = "pymalloc behind tracemalloc".to_owned();
    suspected(&mut snapshot);
    snapshot
}

/// A process that went away.
fn ended_early() -> Snapshot {
    let mut snapshot = inconclusive();
    snapshot.target.ended = true;
    snapshot.observed.duration_s = 3.2;
    snapshot.observed.bursts = 2;
    snapshot.observed.allocations = 1_842;
    snapshot.reasons = vec![
        "3.2 s of observation are too short to tell what stays; at least 4 s are needed".to_owned(),
    ];
    (snapshot.overhead.spent, snapshot.overhead.of_own_work) = (0.004, 0.0132);
    snapshot.coverage.pymalloc = Some(0.997);
    snapshot.losses = crate::snapshot::Losses::default();
    snapshot.memory.growth_interval = (-200_000.0, 260_000.0);
    snapshot
}

/// Nothing is known.
fn empty() -> Snapshot {
    let mut snapshot = ended_early();
    snapshot.target.cmdline.clear();
    snapshot.target.ended = false;
    snapshot.target.cwd = None;
    snapshot.sites.clear();
    snapshot.fresh_memory.clear();
    snapshot.reasons.clear();
    snapshot.unseen.clear();
    snapshot.coverage.pymalloc = None;
    snapshot.observed.bursts = 0;
    snapshot.observed.allocations = 0;
    snapshot.overhead.hits = 0;
    (snapshot.overhead.spent, snapshot.overhead.of_own_work) = (0.0, 0.0);
    snapshot.memory.rss_bytes = 0;
    snapshot.memory.pss_bytes = 0;
    snapshot.memory.split = crate::snapshot::Split::default();
    snapshot
}

/// A service of two workers that leak at the same line, one that ended, and a shell.
pub(crate) fn tree() -> Snapshot {
    let process = |pid, verdict| {
        let mut report = if verdict == Verdict::Leak { leak() } else { ended_early() };
        report.target.pid = pid;
        for leak in &mut report.leaks {
            leak.pid = pid;
        }
        report
    };
    let mut whole = no_leak();
    let workers = [4243, 4244].map(|pid| process(pid, Verdict::Leak));
    let all = [&workers[..], &[process(4250, Verdict::Inconclusive)]].concat();
    whole.verdict = Verdict::Leak;
    whole.leaks = workers.iter().flat_map(|worker| worker.leaks.clone()).collect();
    whole.reasons.insert(0, "of 4 processes observed, 2 leak".to_owned());
    let member = |report: &Snapshot, parent, ended| TreeMember {
        pid: report.target.pid,
        parent,
        verdict: report.verdict,
        leaks: report.leaks.len() as u32,
        rss_bytes: report.memory.rss_bytes,
        growth_bytes_per_s: report.memory.growth_bytes_per_s,
        ended,
    };
    let mut members = vec![TreeMember { verdict: Verdict::NoLeak, ..member(&whole, 0, false) }];
    members.extend(all.iter().map(|report| member(report, 4242, report.target.ended)));
    let others = [("sh", "not_python", 3), ("", "ended_first", 1)];
    whole.tree = Some(Tree {
        verdict: Verdict::Leak,
        seen: 8,
        attached: 4,
        not_attached: NotAttached { not_python: 3, ended_first: 1, ..NotAttached::default() },
        born: 5,
        replaced: 3,
        alive: 3,
        pids: members.iter().map(|member| member.pid).collect(),
        reports_dropped: 0,
        others: others
            .map(|(program, cause, count)| OtherProgram {
                program: program.to_owned(),
                cause: cause.to_owned(),
                count,
                pid: 4260,
            })
            .to_vec(),
        rss_bytes: 3 * whole.memory.rss_bytes,
        pss_bytes: whole.memory.rss_bytes,
        growth_bytes_per_s: 2_300_000.0,
        growth_interval: (2_100_000.0, 2_500_000.0),
        members,
    });
    whole.processes = Some(
        all.into_iter()
            .map(|report| ProcessReport {
                pid: report.target.pid,
                parent: 4242,
                cmdline: report.target.cmdline.clone(),
                born_ns: None,
                ended_ns: report.target.ended.then_some(9),
                report: Box::new(report),
            })
            .collect(),
    );
    whole
}

/// All of them by name.
pub(crate) fn all() -> Vec<(&'static str, Snapshot)> {
    vec![
        ("leak", leak()),
        ("two_leaks", two_leaks()),
        ("gpu", gpu()),
        ("gpu", gpu()),
        ("no_leak", no_leak()),
        ("inconclusive", inconclusive()),
        ("ended_early", ended_early()),
        ("empty", empty()),
        ("tree", tree()),
    ]
}

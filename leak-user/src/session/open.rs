//! From a target to a session: configuration, loading, calibration, the watch tier.

use std::{collections::HashMap, fs, path::Path, rc::Rc};

use leak_common::config::{Config, PymallocConfig, PythonConfig};

use super::{Options, Session, SessionError, mappings::Pace};
use crate::{
    heap::{identity::Identifier, names::TypeNames, pymalloc::Blocks},
    ledger::{Ledger, survivors::Survivors},
    probe::{
        budget::Budget,
        burst::{Bursts, now},
        calibrate::Calibration,
        error::ProbeError,
        faults::Faults,
        keeper::Keeper,
        log::ProgramLog,
        object::{self, Capacity, Object},
        plan::{self, Plan},
        ring::Ring,
        tables::Tables,
        tracefs, watch,
    },
    symbolize::{code::CodeCache, stacks::Stacks},
    target::{
        Python, Target,
        kernel::{self, KernelRelease},
        layout::{Instr, OWNER_BOUNDARY},
        process,
    },
    units::{Nanos, Pid, Tid},
    watch::usage::Usage,
};

impl Session {
    /// Loads the programs and attaches the watch tier. Makes tracefs available to this process, so it
    /// must be called before other threads are started. `costs`: as measured for another session, so that
    /// they need not be measured again.
    ///
    /// # Errors
    /// [`SessionError`].
    pub fn open(
        target: Target,
        options: Options,
        costs: Option<Calibration>,
    ) -> Result<Self, SessionError> {
        tracefs::ensure()?;
        let plan = plan::plan(&target, return_probes_are_safe(target.pid))?;
        let config = config(&target, &plan)?;
        let capacity = if options.exact { Capacity::EXACT } else { Capacity::BURSTS };
        let mut object = object::load(&config, capacity, options.one_by_one)?;
        let keeper = Rc::new(Keeper::start().map_err(ProbeError::Keeper)?);
        let tables = Tables::new(&mut object)?;
        let ring = Ring::new(&mut object)?;
        let mut bursts = Bursts::new(&mut object, Rc::clone(&keeper))?;
        let costs = costs.unwrap_or_else(|| measure(&mut object, &keeper));
        let log = ProgramLog::new(&mut object);
        tracing::debug!(?costs, "calibrated");
        bursts.forget_counts(&tables)?;
        watch::attach(&mut object)?;

        let python = &target.python;
        let identifier = Identifier::new(python.layout, python.type_type);
        let survivors = Survivors::new(python.pymalloc.map(Blocks::new), identifier);
        let names = TypeNames::new(python.layout, python.type_type);
        let codes = CodeCache::new(python.layout, python.code_type);
        let start = now();
        Ok(Self {
            ledger: Ledger::new(start, survivors, target.python.free_listed.clone()),
            codes,
            stacks: Stacks::default(),
            budget: Budget::new(options.overhead, start, options.duration, costs),
            costs,
            children: process::children(target.pid).len() as u64,
            target,
            options,
            plan,
            object,
            tables,
            ring,
            log,
            bursts,
            start,
            end: start,
            burst_count: 0,
            usage: Usage::default(),
            proportional_due: Nanos(0),
            census: None,
            census_due: Nanos(0),
            usage_due: Nanos(0),
            target_ended: false,
            by_class: None,
            faults: Faults::new(start),
            pace: Pace::new(start),
            names,
            named: HashMap::new(),
        })
    }
}

/// What a hit costs, or what is usual where it can't be measured.
fn measure(object: &mut Object, keeper: &Rc<Keeper>) -> Calibration {
    Calibration::measure(object, keeper).unwrap_or_else(|reason| {
        tracing::warn!("the cost of a probe hit could not be measured ({reason}); assuming 1 µs");
        Calibration::USUAL
    })
}

/// Would a return probe be harmless?
fn return_probes_are_safe(pid: Pid) -> bool {
    let status = fs::read_to_string(process::proc_path(pid, "status")).unwrap_or_default();
    KernelRelease::running().is_ok_and(|kernel| !kernel::uretprobe_hazard(kernel, &status))
}

/// The process's threads, the main one last.
pub(super) fn threads(pid: Pid) -> Vec<Tid> {
    let tasks = process::proc_path(pid, "task");
    let listed = fs::read_dir(Path::new(&tasks)).into_iter().flatten().flatten();
    let mut threads: Vec<Tid> = listed
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Tid))
        .filter(|tid| tid.0 != pid.0)
        .collect();
    threads.push(Tid(pid.0));
    threads
}

fn config(target: &Target, plan: &Plan) -> Result<Config, SessionError> {
    let task = kernel::task_layout()?;
    Ok(Config {
        tgid: u64::from(target.pid.0),
        fsbase_offset: task.fsbase,
        python: python_config(&target.python),
        pymalloc: pymalloc_config(&target.python, plan),
        task_pid: task.fields.pid,
        task_tgid: task.fields.tgid,
    })
}

fn python_config(python: &Python) -> PythonConfig {
    let layout = python.layout;
    let (frame_instr, code_start, instr_bytes) = match layout.frame.instr {
        Instr::Pointer { at, code_start } => (at, code_start, 0),
        Instr::Index { at, bytes } => (at, 0, bytes),
    };
    PythonConfig {
        enabled: 1,
        tss_indirect: python.thread_slot.indirect.unwrap_or(0),
        tss_offset: python.thread_slot.offset,
        cframe: layout.thread.cframe.unwrap_or(0),
        current_frame: layout.thread.current_frame,
        frame_code: layout.frame.code,
        frame_previous: layout.frame.previous,
        frame_instr,
        instr_bytes,
        frame_owner: layout.frame.owner.unwrap_or(0),
        // No byte reaches it where there are no owners.
        owner_boundary: layout.frame.owner.map_or(256, |_| OWNER_BOUNDARY.into()),
        code_start,
    }
}

fn pymalloc_config(python: &Python, plan: &Plan) -> PymallocConfig {
    let Some(pymalloc) = &python.pymalloc else { return PymallocConfig::default() };
    PymallocConfig {
        usedpools: pymalloc.usedpools.0,
        usable_arenas: pymalloc.usable_arenas.map_or(0, |addr| addr.0),
        arenas: pymalloc.arenas.0,
        pool_size: pymalloc.pool_size,
        arena_size: pymalloc.arena_size,
        realloc_inlines_malloc: u64::from(plan.realloc_inlines_malloc),
        realloc_inlines_free: u64::from(plan.realloc_inlines_free),
    }
}

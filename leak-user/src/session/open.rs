//! From a target to a session: configuration, loading, calibration, the watch tier.

use std::{collections::HashMap, fs, path::Path, rc::Rc};

use leak_common::config::{
    Config, EVERY_FRAME, PidNamespace, PymallocConfig, PythonConfig, Range, native,
};

use super::{
    Native, Options, Session, SessionError, churn::Churn, gpu::Gpu, mappings::Pace, midway::Midway,
    rare::Rare, suspect::Suspicion,
};
use crate::{
    clock::{now, process_time},
    heap::{identity::Identifier, names::TypeNames, pymalloc::Blocks},
    ledger::{Ledger, survivors::Survivors},
    probe::{
        account::Moment,
        budget::{Allowed, Budget},
        burst::Bursts,
        calibrate::Calibration,
        error::ProbeError,
        faults::Faults,
        gpu::GpuTables,
        keeper::Keeper,
        log::ProgramLog,
        object::{self, Capacity, Object},
        plan::{self, Plan, Returns},
        priority::Behind,
        ring::Ring,
        tables::Tables,
        tracefs, watch,
    },
    symbolize::{
        code::CodeCache, merge::Owners, modules::Modules, stacks::Stacks, unwind::Unwinder,
    },
    target::{
        Python, Target,
        elsewhere::Elsewhere,
        kernel,
        layout::{Entry, Instr, OWNER_BOUNDARY},
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
        let mut elsewhere = Elsewhere::than(target.pid);
        elsewhere.go(None);
        // From here on, so that the first burst finds out how busy the target is.
        let come = Moment { now: now(), worked: process_time(target.pid).unwrap_or_default() };
        let returns = if options.no_return_probes {
            Returns::Instructions
        } else {
            Returns::harmless(target.pid)
        };
        let plan = plan::plan(&target, returns)?;
        let config = config(&target, &plan, options.native)?;
        let capacity = if options.exact { Capacity::EXACT } else { Capacity::BURSTS };
        let capacity = match options.native {
            Native::Whole => capacity.with_whole_stacks(),
            Native::None | Native::Top => capacity,
        };
        let mut object = object::load(&config, capacity, options.one_by_one)?;
        let keeper = Rc::new(Keeper::start().map_err(ProbeError::Keeper)?);
        let mut tables = Tables::new(&mut object)?;
        let gpu = Gpu::new(GpuTables::new(&mut object)?);
        let mut modules = Modules::new(target.pid);
        tables.set_code(&modules.code())?;
        let ring = Ring::new(&mut object)?;
        let mut bursts = Bursts::new(&mut object, Rc::clone(&keeper), elsewhere)?;
        let costs = costs.unwrap_or_else(|| measure(&mut object, &keeper, returns));
        let log = ProgramLog::new(&mut object);
        tracing::debug!(?costs, "calibrated");
        bursts.forget_counts(&tables)?;
        watch::attach(&mut object)?;

        let python = target.python.as_ref().ok();
        let identifier = python.map_or_else(Identifier::without_types, |python| {
            Identifier::new(python.layout, python.type_type)
        });
        let names = python.map(|python| TypeNames::new(python.layout, python.type_type));
        let free_listed = python.map(|python| python.free_listed.clone()).unwrap_or_default();
        let survivors = Survivors::new(
            target.pymalloc().map(Blocks::new),
            identifier,
            target.blocks_are_glibcs(),
        );
        let churn = python
            .filter(|_| options.turnover)
            .map(|python| Churn::new(Identifier::new(python.layout, python.type_type)));
        let codes = python.map(|python| CodeCache::new(python.layout, python.code_type));
        let start = now();
        let allowed = Allowed {
            share: options.overhead,
            burst_most: options.burst_most,
            duration: options.duration,
        };
        let mut session = Self {
            ledger: Ledger::new(start, survivors, free_listed),
            codes,
            stacks: Stacks::default(),
            modules,
            unwinder: Unwinder::default(),
            owners: Owners::of(&target),
            code_changed: false,
            budget: Budget::new(allowed, come, costs),
            come,
            costs,
            children: process::children(target.pid).len() as u64,
            target,
            options,
            behind: None,
            plan,
            returns,
            midway: Midway::default(),
            object,
            tables,
            ring,
            log,
            bursts,
            start,
            end: start,
            burst_count: 0,
            first_burst: None,
            usage: Usage::default(),
            proportional_due: Nanos(0),
            census: None,
            census_due: Nanos(0),
            usage_due: Nanos(0),
            target_ended: false,
            by_class: None,
            rare: Rare::default(),
            looks: 0,
            churn,
            faults: Faults::new(start),
            pace: Pace::new(start),
            names,
            suspicion: Suspicion::default(),
            gpu,
            named: HashMap::new(),
        };
        session.find_gpus()?;
        let keeps_up = options.exact || options.turnover;
        session.behind = (!keeps_up).then(Behind::the_others);
        Ok(session)
    }
}

/// What a hit costs, or what is usual where it can't be measured.
fn measure(object: &mut Object, keeper: &Rc<Keeper>, returns: Returns) -> Calibration {
    Calibration::measure(object, keeper, returns).unwrap_or_else(|reason| {
        tracing::warn!("the cost of a probe hit could not be measured ({reason}); assuming 1 µs");
        Calibration::USUAL
    })
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

pub(super) fn config(
    target: &Target,
    plan: &Plan,
    natives: Native,
) -> Result<Config, SessionError> {
    let task = kernel::task_layout()?;
    Ok(Config {
        tgid: u64::from(target.kernel_id.tgid),
        pid_namespace: target.kernel_id.namespace.map_or(PidNamespace::default(), |own| {
            PidNamespace { device: own.device, inode: own.inode }
        }),
        heap_code: target
            .heap
            .as_ref()
            .and_then(|heap| heap.code)
            .map_or(Range::default(), |code| Range { start: code.start.0, end: code.end.0 }),
        fsbase_offset: task.fsbase,
        python: target.python.as_ref().map_or(PythonConfig::default(), python_config),
        pymalloc: pymalloc_config(target, plan),
        native: match natives {
            Native::None => native::NONE,
            Native::Top => native::TOP,
            Native::Whole => native::WHOLE,
        },
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
        frame_is_entry: match layout.frame.entry {
            Entry::Every { .. } => EVERY_FRAME,
            Entry::Flag(at) => at,
            Entry::Boundary => 0,
        },
        copy_index: layout.frame.copies.map_or(0, |copies| copies.index),
        copies: layout.frame.copies.map_or(0, |copies| copies.array),
    }
}

fn pymalloc_config(target: &Target, plan: &Plan) -> PymallocConfig {
    let Some(pymalloc) = target.pymalloc() else { return PymallocConfig::default() };
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

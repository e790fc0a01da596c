//! What to build in which order.
//!
//! Everything that is wanted is a node of a graph: a request, an output, a derivation to be built, a derivation that is
//! itself the output of another. A node is looked at (`step`) when it is new and whenever what it waited for
//! is done; it then ends, or waits for further nodes, or becomes a job for one of the threads that build. So an
//! output that is there ends at once, and nothing that only it would need is looked at.
//!
//! The graph belongs to the calling thread; threads only run jobs. Steps look things up in the database, which
//! would gain nothing from several threads.

mod steps;

use super::job::{Job, Outcome, run_job};
use super::request::{
    BuildMode, BuildReport, BuildRequest, BuildResult, BuildStatus, DrvRef, FailureClasses,
};
use super::{Failed, Shared};
use crate::derivation::{Derivation, OutputName};
use crate::error::{Error, ErrorKind};
use crate::events::{Activity, ActivityKind, Level};
use crate::store_path::StorePath;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// How long to wait before trying a lock again.
const RETRY: Duration = Duration::from_millis(200);

/// What a node is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    /// A request, by its number.
    Root(usize),
    /// A derivation, which may have to be built first. Ends with its path.
    Drv(DrvRef),
    /// An output of a derivation that may have to be built first. Ends with its path.
    Nested(DrvRef, OutputName),
    /// An output. Ends with its path.
    Output(StorePath, OutputName, BuildMode),
    /// All outputs of a derivation.
    Build(StorePath, BuildMode),
}

/// How a node ended well.
#[derive(Debug, Clone)]
enum Value {
    Path(StorePath, BuildStatus),
    Outputs(BTreeMap<OutputName, StorePath>, BuildStatus),
    /// The derivation stands for another, in which its inputs are known.
    Resolved(StorePath),
    Request(BTreeMap<OutputName, StorePath>, BuildStatus),
}

struct Node {
    key: Key,
    /// How far it is; means something to `step` only.
    phase: u8,
    /// What it waits for, in the current phase.
    needs: Vec<usize>,
    waiting: usize,
    dependents: Vec<usize>,
    result: Option<Result<Value, Arc<Failed>>>,
}

/// What a thread reports.
struct Finished {
    node: usize,
    job: Job,
    outcome: Result<Outcome, Failed>,
    stop: SystemTime,
}

impl Finished {
    /// As it counts when nothing new is begun any more: only the first failure is of interest.
    fn stopped(mut self) -> Finished {
        if self.outcome.is_err() {
            self.outcome = Err(Failed::cancelled());
        }
        self
    }
}

/// Jobs whose inputs are there, in the order in which they are begun: by the names of their derivations, as Nix
/// does, so that the same request begins its builds in the same order each time and in the order that people
/// know.
#[derive(Default)]
struct Jobs(BTreeMap<(String, StorePath, usize), Job>);

impl Jobs {
    fn add(&mut self, node: usize, job: Job) {
        let path = job.drv_path.clone();
        self.0.insert((path.name().to_owned(), path, node), job);
    }

    fn next(&mut self) -> Option<(usize, Job)> {
        self.0.pop_first().map(|((_, _, node), job)| (node, job))
    }
}

struct Schedule<'s> {
    shared: &'s Shared,
    builds: &'s Activity,
    requests: &'s [BuildRequest],
    mode: BuildMode,
    nodes: Vec<Node>,
    index: HashMap<Key, usize>,
    drvs: HashMap<StorePath, Arc<Derivation>>,
    ready: VecDeque<usize>,
    jobs: Jobs,
    delayed: Vec<(Instant, usize, Job)>,
    /// Shown while somebody else has a lock.
    waiting_for: HashMap<usize, Activity>,
    times: HashMap<StorePath, (SystemTime, SystemTime)>,
    failures: FailureClasses,
    running: usize,
    done: u64,
    failed: u64,
    expected: u64,
    /// How many requests have not ended.
    unfinished: usize,
    /// A request has failed and nothing new is begun.
    stopping: bool,
}

/// Builds what is requested.
pub(super) fn build(
    shared: &Shared,
    builds: &Activity,
    requests: &[BuildRequest],
    mode: BuildMode,
) -> BuildReport {
    let mut schedule = Schedule {
        shared,
        builds,
        requests,
        mode,
        nodes: Vec::new(),
        index: HashMap::new(),
        drvs: HashMap::new(),
        ready: VecDeque::new(),
        jobs: Jobs::default(),
        delayed: Vec::new(),
        waiting_for: HashMap::new(),
        times: HashMap::new(),
        failures: FailureClasses::default(),
        running: 0,
        done: 0,
        failed: 0,
        expected: 0,
        unfinished: requests.len(),
        stopping: false,
    };
    for number in 0..requests.len() {
        schedule.node(Key::Root(number));
    }
    schedule.run();
    schedule.report()
}

fn error(message: impl Into<String>) -> Failed {
    Error::new(ErrorKind::Build, message).into()
}

impl Schedule<'_> {
    /// Runs until all requests have ended, or one has failed.
    fn run(&mut self) {
        let (job_out, job_in) = channel::<(usize, Job)>();
        let (done_out, done_in) = channel::<Finished>();
        let job_in = Mutex::new(job_in);
        let shared = self.shared;
        std::thread::scope(|scope| {
            let mut job_out = Some(job_out);
            let mut threads = 0;
            loop {
                while !self.stopping
                    && let Some(node) = self.ready.pop_front()
                {
                    self.step(node);
                }
                self.requeue_delayed();
                if self.unfinished == 0 || self.stopping || self.shared.cancel.is_cancelled() {
                    break;
                }
                // With no builds allowed, a job still tells why it cannot be done.
                while self.running < self.shared.settings.max_jobs.max(1) {
                    let Some((node, job)) = self.jobs.next() else {
                        break;
                    };
                    if threads < self.shared.settings.max_jobs.max(1) && threads <= self.running {
                        threads += 1;
                        let (job_in, done_out) = (&job_in, done_out.clone());
                        scope.spawn(move || work(shared, job_in, &done_out));
                    }
                    self.running += 1;
                    if let Some(job_out) = &job_out {
                        // Threads wait for as long as this end is open.
                        let _ = job_out.send((node, job));
                    }
                }
                self.progress();
                if self.running == 0 && self.delayed.is_empty() {
                    // Nothing can happen any more: derivations that need each other, which hashes rule out.
                    break;
                }
                match done_in.recv_timeout(self.next_wake()) {
                    Ok(finished) => {
                        self.finished(finished);
                        while let Ok(finished) = done_in.try_recv() {
                            self.finished(finished);
                        }
                    }
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
                }
            }
            job_out.take();
            if self.running > 0 {
                shared.cancel.cancel();
                while self.running > 0 {
                    match done_in.recv() {
                        Ok(finished) => self.finished(finished.stopped()),
                        Err(_) => break,
                    }
                }
            }
        });
        self.progress();
    }

    fn requeue_delayed(&mut self) {
        let now = Instant::now();
        let (due, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.delayed)
            .into_iter()
            .partition(|(when, ..)| *when <= now);
        self.delayed = later;
        for (_, node, job) in due {
            self.jobs.add(node, job);
        }
    }

    fn next_wake(&self) -> Duration {
        let now = Instant::now();
        self.delayed
            .iter()
            .map(|(when, ..)| when.saturating_duration_since(now))
            .min()
            // Somebody may cancel meanwhile.
            .unwrap_or(Duration::from_millis(500))
            .min(Duration::from_millis(500))
    }

    fn progress(&self) {
        self.builds.progress(
            self.done,
            self.expected.max(self.done),
            self.running as u64,
            self.failed,
        );
    }

    /// The node for something; a new one will be looked at.
    fn node(&mut self, key: Key) -> usize {
        if let Some(node) = self.index.get(&key) {
            return *node;
        }
        let number = self.nodes.len();
        self.index.insert(key.clone(), number);
        self.nodes.push(Node {
            key,
            phase: 0,
            needs: Vec::new(),
            waiting: 0,
            dependents: Vec::new(),
            result: None,
        });
        self.ready.push_back(number);
        number
    }

    /// Lets a node wait for others; it is looked at again when they have ended, in the next phase.
    fn wait_for(&mut self, number: usize, keys: Vec<Key>) {
        let needs: Vec<usize> = keys.into_iter().map(|key| self.node(key)).collect();
        let mut waiting = 0;
        for need in &needs {
            if let Some(need) = self.nodes.get_mut(*need)
                && need.result.is_none()
            {
                need.dependents.push(number);
                waiting += 1;
            }
        }
        if let Some(node) = self.nodes.get_mut(number) {
            node.phase += 1;
            node.needs = needs;
            node.waiting = waiting;
            if waiting == 0 {
                self.ready.push_back(number);
            }
        }
    }

    fn end(&mut self, number: usize, result: Result<Value, Arc<Failed>>) {
        let Some(node) = self.nodes.get_mut(number) else {
            return;
        };
        if node.result.is_some() {
            return;
        }
        let failed = result.is_err();
        node.result = Some(result.clone());
        let root = matches!(node.key, Key::Root(_));
        let is_build = matches!(node.key, Key::Build(..));
        let dependents = std::mem::take(&mut node.dependents);
        let keep_going = self.shared.settings.keep_going;
        if root {
            self.unfinished = self.unfinished.saturating_sub(1);
        }
        if root && failed && !keep_going {
            self.stopping = true;
        }
        if let Err(failed) = &result
            && is_build
            && self.is_dependency(&dependents)
        {
            self.tell(failed);
        }
        for dependent in dependents {
            if let Some(node) = self.nodes.get_mut(dependent) {
                node.waiting = node.waiting.saturating_sub(1);
                if node.waiting == 0 || (failed && !keep_going) {
                    self.ready.push_back(dependent);
                }
            }
        }
    }

    /// Whether something other than a request needs a build.
    fn is_dependency(&self, dependents: &[usize]) -> bool {
        dependents.iter().any(|output| {
            self.nodes.get(*output).is_some_and(|output| {
                output.dependents.iter().any(|above| {
                    self.nodes
                        .get(*above)
                        .is_some_and(|above| !matches!(above.key, Key::Root(_)))
                })
            })
        })
    }

    fn tell(&self, failed: &Failed) {
        if failed.status != BuildStatus::Cancelled {
            self.shared
                .observer
                .message(Level::Error, failed.message.as_str());
        }
    }

    fn step(&mut self, number: usize) {
        let Some(node) = self.nodes.get(number) else {
            return;
        };
        if node.result.is_some() {
            return;
        }
        let (key, phase) = (node.key.clone(), node.phase);
        let outcome = match &key {
            Key::Root(request) => self.step_root(number, phase, *request),
            Key::Drv(drv) => self.step_drv(number, phase, drv),
            Key::Nested(drv, output) => self.step_nested(number, phase, drv, output),
            Key::Output(drv, output, mode) => self.step_output(number, phase, drv, output, *mode),
            Key::Build(drv, mode) => self.step_build(number, phase, drv, *mode),
        };
        match outcome {
            Ok(None) => {}
            Ok(Some(value)) => self.end(number, Ok(value)),
            Err(failed) => self.end(number, Err(Arc::new(failed))),
        }
    }

    /// Results of what a node has waited for. The first failure, if there is any.
    fn results(&self, number: usize) -> Result<Vec<Value>, Failed> {
        let Some(node) = self.nodes.get(number) else {
            return Ok(Vec::new());
        };
        let mut failure = None;
        let mut values = Vec::new();
        for need in &node.needs {
            match self.nodes.get(*need).and_then(|need| need.result.as_ref()) {
                Some(Ok(value)) => values.push(value.clone()),
                Some(Err(failed)) => failure = failure.or(Some(failed.clone())),
                None => {}
            }
        }
        match failure {
            Some(failed) => Err((*failed).clone()),
            None => Ok(values),
        }
    }

    fn failed_needs(&self, number: usize) -> usize {
        self.nodes.get(number).map_or(0, |node| {
            node.needs
                .iter()
                .filter(|need| {
                    self.nodes
                        .get(**need)
                        .is_some_and(|need| matches!(need.result, Some(Err(_))))
                })
                .count()
        })
    }

    fn single_path(&self, number: usize) -> Result<StorePath, Failed> {
        match self.results(number)?.into_iter().next() {
            Some(Value::Path(path, _)) => Ok(path),
            _ => Err(error("a path is not known that should be")),
        }
    }

    fn derivation(&mut self, path: &StorePath) -> Result<Arc<Derivation>, Failed> {
        if let Some(drv) = self.drvs.get(path) {
            return Ok(drv.clone());
        }
        let drv = Arc::new(self.shared.store.read_derivation(path)?);
        self.drvs.insert(path.clone(), drv.clone());
        Ok(drv)
    }

    /// Takes note of what a thread has done.
    fn finished(&mut self, finished: Finished) {
        let Finished {
            node,
            job,
            outcome,
            stop,
        } = finished;
        self.running = self.running.saturating_sub(1);
        match outcome {
            Ok(Outcome::Done {
                status,
                outputs,
                start,
            }) => {
                self.waiting_for.remove(&node);
                self.done += 1;
                for path in outputs.values() {
                    self.shared.mark_good(path);
                }
                if let Some(start) = start {
                    self.times.insert(job.drv_path, (start, stop));
                }
                self.end(node, Ok(Value::Outputs(outputs, status)));
            }
            Ok(Outcome::Locked(files)) => {
                let list: Vec<String> = files
                    .iter()
                    .map(|file| format!("'{}'", file.display()))
                    .collect();
                self.delay(
                    node,
                    job,
                    format!("waiting for lock on {}", list.join(", ")),
                );
            }
            Ok(Outcome::NoUser) => {
                let drv = self.shared.store.print(&job.drv_path);
                self.delay(
                    node,
                    job,
                    format!("waiting for a free build user ID for '{drv}'"),
                );
            }
            Err(failed) => {
                self.waiting_for.remove(&node);
                self.failures.add(failed.status);
                if failed.status != BuildStatus::Cancelled {
                    self.failed += 1;
                }
                self.end(node, Err(Arc::new(failed)));
            }
        }
    }

    fn delay(&mut self, node: usize, job: Job, why: String) {
        let shared = self.shared;
        self.waiting_for.entry(node).or_insert_with(|| {
            Activity::start(
                &shared.observer,
                shared.activity,
                Level::Warn,
                ActivityKind::BuildWaiting,
                why,
                Vec::new(),
            )
        });
        self.delayed.push((Instant::now() + RETRY, node, job));
    }

    fn report(mut self) -> BuildReport {
        let mut results = Vec::new();
        for (number, request) in self.requests.iter().enumerate() {
            let node = self
                .index
                .get(&Key::Root(number))
                .and_then(|node| self.nodes.get(*node));
            let (status, message, outputs) = match node.and_then(|node| node.result.clone()) {
                Some(Ok(Value::Request(outputs, status))) => (status, String::new(), outputs),
                Some(Err(failed)) => (failed.status, failed.message.clone(), BTreeMap::new()),
                _ if self.shared.cancel.is_cancelled() && !self.stopping => {
                    let failed = Failed::cancelled();
                    (failed.status, failed.message, BTreeMap::new())
                }
                _ => (BuildStatus::Cancelled, String::new(), BTreeMap::new()),
            };
            // Requests themselves may be impossible without any build.
            if !matches!(status, BuildStatus::MiscFailure) {
                self.failures.add(status);
            }
            let times = self.times.get(request.drv.root());
            results.push(BuildResult {
                request: request.clone(),
                status,
                message,
                outputs,
                start: times.map(|times| times.0),
                stop: times.map(|times| times.1),
            });
        }
        BuildReport {
            results,
            failures: self.failures,
        }
    }
}

/// What each thread does: jobs, one after the other.
fn work(shared: &Shared, jobs: &Mutex<Receiver<(usize, Job)>>, done: &Sender<Finished>) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((node, job)) = job else { return };
        let outcome = match shared.cancel.is_cancelled() {
            true => Err(Failed::cancelled()),
            false => {
                shared.tell_warning(shared.collect_if_full());
                run_job(shared, &job)
            }
        };
        let finished = Finished {
            node,
            job,
            outcome,
            stop: SystemTime::now(),
        };
        if done.send(finished).is_err() {
            return;
        }
    }
}

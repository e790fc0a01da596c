//! Runs a program over a text.
//!
//! A backtracking machine with its own stack. What it does at a choice follows from three facts about libstdc++:
//! a repetition stops looking once something was found, an alternative looks at both sides, and a later match replaces
//! an earlier one only when it is longer. Hence for a given (instruction, position) the search below it always
//! ends the same way, and can be skipped when it is known: hopeless, or already done for the match being looked for.

use super::program::{Inst, Program};
use super::{Group, Match};
use memchr::{memchr, memmem};
use std::collections::HashMap;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// A match must reach the end of the text.
    Whole,
    /// A match may end anywhere.
    Prefix,
}

/// The match needs more memory than allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OutOfMemory;

/// How often repetitions with an empty body already ran at the current position: an index into `Machine::counts`;
/// 0 means not at all, as everywhere after a byte was consumed.
type Counts = usize;

#[derive(Debug, Clone, Copy)]
enum Frame {
    /// The body of a repetition is being tried; without success go on at `other`.
    Repeat {
        other: usize,
        at: usize,
        counts: Counts,
        memo: usize,
    },
    /// The first alternative is being tried; go on at `other` in any case.
    Either {
        other: usize,
        at: usize,
        counts: Counts,
        memo: usize,
    },
    /// Both ways have been tried.
    Done {
        found_before: bool,
        at: usize,
        counts: Counts,
        memo: usize,
    },
    /// The continuation of a star is being tried at `at`; it began at `from`.
    Star {
        next: usize,
        from: usize,
        at: usize,
        most: usize,
        counts: Counts,
        memo: usize,
    },
    /// A group's begin is to be restored.
    Opened { group: usize, old: usize },
    /// A group's range is to be restored.
    Closed {
        group: usize,
        old: Option<(usize, usize)>,
    },
}

const UNKNOWN: u8 = 0;
const HOPELESS: u8 = 1;
const FOUND: u8 = 2;

/// How much to keep about nested repetitions with empty bodies. Their ways to match the empty text double with each level,
/// so that only a limit ends a search through dozens of levels (C++ Nix does not end then).
const COUNTS_LIMIT: usize = 2_000_000;
/// How many results of choices to keep for one text. What takes more would take more than two seconds.
const RESULTS_LIMIT: usize = 100_000_000;
/// About what each of the counts takes.
const COUNT_BYTES: usize = 96;

/// One count of a repetition within a [`Counts`] set: (which, how often).
type Count = (usize, u8);

#[derive(Debug)]
pub(super) struct Machine<'p, 't> {
    program: &'p Program,
    text: &'t [u8],
    mode: Mode,
    frames: Vec<Frame>,
    /// Where each open group began.
    opened: Vec<usize>,
    groups: Vec<Option<(usize, usize)>>,
    best: Option<usize>,
    best_groups: Vec<Option<(usize, usize)>>,
    /// What is known of (position, choice), once the machine began to remember.
    memo: Vec<u8>,
    /// How much that is.
    results: usize,
    /// The same under counts other than 0.
    memo_counts: HashMap<(usize, usize, Counts), u8>,
    counts: Vec<Vec<Count>>,
    counts_index: HashMap<Vec<Count>, Counts>,
    /// How many counts all of `counts` hold.
    counts_size: usize,
    /// Choices made so far, and how many to make before remembering.
    steps: usize,
    patience: usize,
    remembering: bool,
    /// The start of a match that must not be empty.
    not_empty_from: Option<usize>,
    /// Bytes that may be used for each of the kinds of things to remember.
    memory: usize,
}

impl<'p, 't> Machine<'p, 't> {
    pub(super) fn new(program: &'p Program, text: &'t [u8], mode: Mode, memory: usize) -> Self {
        Machine {
            program,
            text,
            mode,
            frames: Vec::new(),
            opened: vec![0; program.groups],
            groups: vec![None; program.groups],
            best: None,
            best_groups: Vec::new(),
            memo: Vec::new(),
            results: 0,
            memo_counts: HashMap::new(),
            counts: vec![Vec::new()],
            counts_index: HashMap::new(),
            counts_size: 0,
            steps: 0,
            patience: text.len().saturating_mul(8).saturating_add(4096),
            remembering: false,
            not_empty_from: None,
            memory,
        }
    }

    /// Remember from the first choice on.
    #[cfg(test)]
    pub(super) fn remember(&mut self) {
        self.remembering = true;
    }

    /// The leftmost match from `from` on.
    pub(super) fn search(&mut self, from: usize) -> Result<Option<Match>, OutOfMemory> {
        let rest = self.text.get(from..).unwrap_or_default();
        if let Some(literal) = &self.program.literal {
            return Ok(memmem::find(rest, literal).map(|at| Match {
                range: from + at..from + at + literal.len(),
                groups: Vec::new(),
            }));
        }
        if self.program.code.first() == Some(&Inst::Begin) {
            return if from == 0 {
                self.match_at(0, false)
            } else {
                Ok(None)
            };
        }
        let mut at = from;
        while at <= self.text.len() {
            if let Some(first) = &self.program.first {
                let rest = self.text.get(at..).unwrap_or_default();
                let skip = match self.program.first_byte {
                    Some(byte) => memchr(byte, rest),
                    None => rest.iter().position(|b| first.contains(*b)),
                };
                match skip {
                    Some(skip) => at += skip,
                    None => return Ok(None),
                }
            }
            if let Some(found) = self.match_at(at, false)? {
                return Ok(Some(found));
            }
            at += 1;
        }
        Ok(None)
    }

    /// The match that begins at `start`; with `not_empty`, one that is not empty.
    pub(super) fn match_at(
        &mut self,
        start: usize,
        not_empty: bool,
    ) -> Result<Option<Match>, OutOfMemory> {
        self.not_empty_from = not_empty.then_some(start);
        self.best = None;
        self.groups.fill(None);
        self.frames.clear();
        let found = self.run(start)?;
        if not_empty {
            // What failed at `start` may have failed only because the match was empty.
            self.forget(start);
        }
        let Some(end) = self.best.filter(|_| found) else {
            return Ok(None);
        };
        // Successes say "already counted in `best`", which holds for this match only. They lie between start and end, and
        // later searches begin at the end.
        self.forget(end);
        let groups: Vec<Group> = self
            .best_groups
            .iter()
            .map(|g| g.map(|(from, to)| from..to))
            .collect();
        Ok(Some(Match {
            range: start..end,
            groups,
        }))
    }

    fn run(&mut self, start: usize) -> Result<bool, OutOfMemory> {
        let (mut pc, mut at, mut counts) = (0, start, 0);
        loop {
            let mut found = self.straight(&mut pc, &mut at, &mut counts)?;
            // Back up to where something is left to try.
            loop {
                let Some(frame) = self.frames.pop() else {
                    return Ok(found);
                };
                match frame {
                    Frame::Opened { group, old } => {
                        if let Some(slot) = self.opened.get_mut(group) {
                            *slot = old;
                        }
                    }
                    Frame::Closed { group, old } => {
                        if let Some(slot) = self.groups.get_mut(group) {
                            *slot = old;
                        }
                    }
                    Frame::Repeat {
                        other,
                        at: back,
                        counts: c,
                        memo,
                    } => {
                        if found {
                            self.learn(memo, back, c, FOUND)?;
                            continue;
                        }
                        if self.remembering {
                            self.push(Frame::Done {
                                found_before: false,
                                at: back,
                                counts: c,
                                memo,
                            })?;
                        }
                        (pc, at, counts) = (other, back, c);
                        break;
                    }
                    Frame::Either {
                        other,
                        at: back,
                        counts: c,
                        memo,
                    } => {
                        if found && self.best == Some(self.text.len()) {
                            // Nothing can be longer.
                            self.learn(memo, back, c, FOUND)?;
                            continue;
                        }
                        self.push(Frame::Done {
                            found_before: found,
                            at: back,
                            counts: c,
                            memo,
                        })?;
                        (pc, at, counts) = (other, back, c);
                        break;
                    }
                    Frame::Done {
                        found_before,
                        at: back,
                        counts: c,
                        memo,
                    } => {
                        found |= found_before;
                        self.learn(memo, back, c, if found { FOUND } else { HOPELESS })?;
                    }
                    Frame::Star {
                        next,
                        from,
                        at: tried,
                        most,
                        counts: c,
                        memo,
                    } => {
                        if !found && tried > from {
                            let less = tried - 1;
                            self.push(Frame::Star {
                                next,
                                from,
                                at: less,
                                most,
                                counts: c,
                                memo,
                            })?;
                            // Where the star consumed nothing, the counts still stand.
                            (pc, at, counts) = (next, less, if less == from { c } else { 0 });
                            break;
                        }
                        if self.remembering {
                            let hopeless_from = if found { tried + 1 } else { from };
                            for position in from..=most {
                                let known = if position < hopeless_from {
                                    FOUND
                                } else {
                                    HOPELESS
                                };
                                self.learn(
                                    memo,
                                    position,
                                    if position == from { c } else { 0 },
                                    known,
                                )?;
                            }
                        }
                    }
                }
            }
        }
    }

    /// Follows instructions until one fails, accepts or has its answer remembered; choices are pushed.
    fn straight(
        &mut self,
        pc: &mut usize,
        at: &mut usize,
        counts: &mut Counts,
    ) -> Result<bool, OutOfMemory> {
        loop {
            let Some(inst) = self.program.code.get(*pc) else {
                return Ok(false);
            };
            *pc += 1;
            match *inst {
                Inst::Byte(byte) => {
                    if self.text.get(*at) != Some(&byte) {
                        return Ok(false);
                    }
                    *at += 1;
                    *counts = 0;
                }
                Inst::Set(set) => {
                    if !self.in_set(set, *at) {
                        return Ok(false);
                    }
                    *at += 1;
                    *counts = 0;
                }
                Inst::Begin => {
                    if *at != 0 {
                        return Ok(false);
                    }
                }
                Inst::End => {
                    if *at != self.text.len() {
                        return Ok(false);
                    }
                }
                Inst::Open(group) => {
                    if let Some(slot) = self.opened.get_mut(group) {
                        let old = std::mem::replace(slot, *at);
                        self.push(Frame::Opened { group, old })?;
                    }
                }
                Inst::Close(group) => {
                    let begin = self.opened.get(group).copied().unwrap_or(*at);
                    if let Some(slot) = self.groups.get_mut(group) {
                        let old = slot.replace((begin, *at));
                        self.push(Frame::Closed { group, old })?;
                    }
                }
                Inst::Jump(to) => *pc = to,
                Inst::Either { other, memo } => {
                    if let Some(found) = self.recall(memo, *at, *counts) {
                        return Ok(found);
                    }
                    self.step();
                    self.push(Frame::Either {
                        other,
                        at: *at,
                        counts: *counts,
                        memo,
                    })?;
                }
                Inst::Repeat { exit, memo, limit } => {
                    if let Some(found) = self.recall(memo, *at, *counts) {
                        return Ok(found);
                    }
                    self.step();
                    match self.bump(*counts, limit)? {
                        Some(inner) => {
                            self.push(Frame::Repeat {
                                other: exit,
                                at: *at,
                                counts: *counts,
                                memo,
                            })?;
                            *counts = inner;
                        }
                        None => *pc = exit,
                    }
                }
                Inst::RepeatBack { again, memo, limit } => {
                    if let Some(found) = self.recall(memo, *at, *counts) {
                        return Ok(found);
                    }
                    self.step();
                    if let Some(inner) = self.bump(*counts, limit)? {
                        self.push(Frame::Repeat {
                            other: *pc,
                            at: *at,
                            counts: *counts,
                            memo,
                        })?;
                        *counts = inner;
                        *pc = again;
                    }
                }
                Inst::Star { set, memo } => {
                    self.step();
                    let from = *at;
                    // Positions whose outcome is known end the run: beyond them nothing new can be found.
                    let mut most = from;
                    loop {
                        match self.recall(memo, most, if most == from { *counts } else { 0 }) {
                            Some(true) => return Ok(true),
                            Some(false) => {
                                let Some(before) = most.checked_sub(1).filter(|b| *b >= from)
                                else {
                                    return Ok(false);
                                };
                                most = before;
                                break;
                            }
                            None if self.in_set(set, most) => most += 1,
                            None => break,
                        }
                    }
                    if most > from || self.remembering {
                        self.push(Frame::Star {
                            next: *pc,
                            from,
                            at: most,
                            most,
                            counts: *counts,
                            memo,
                        })?;
                    }
                    if most > from {
                        self.steps = self.steps.saturating_add((most - from) / 2);
                        *counts = 0;
                    }
                    *at = most;
                }
                Inst::Accept => {
                    if (self.mode == Mode::Whole && *at != self.text.len())
                        || self.not_empty_from == Some(*at)
                    {
                        return Ok(false);
                    }
                    if self.best.is_none_or(|best| *at > best) {
                        self.best = Some(*at);
                        self.best_groups.clone_from(&self.groups);
                    }
                    return Ok(true);
                }
            }
        }
    }

    fn in_set(&self, set: usize, at: usize) -> bool {
        match (self.program.sets.get(set), self.text.get(at)) {
            (Some(set), Some(byte)) => set.contains(*byte),
            _ => false,
        }
    }

    fn push(&mut self, frame: Frame) -> Result<(), OutOfMemory> {
        if self.frames.len() >= self.memory / size_of::<Frame>() {
            return Err(OutOfMemory);
        }
        self.frames.push(frame);
        Ok(())
    }

    /// Counts a choice, and begins to remember when there were many for the length of the text.
    fn step(&mut self) {
        self.steps = self.steps.saturating_add(1);
        if self.steps > self.patience {
            self.remembering = true;
        }
    }

    fn cell(&self, memo: usize, at: usize) -> usize {
        at.saturating_mul(self.program.memos).saturating_add(memo)
    }

    fn recall(&self, memo: usize, at: usize, counts: Counts) -> Option<bool> {
        if !self.remembering {
            return None;
        }
        let known = if counts == 0 {
            self.memo.get(self.cell(memo, at)).copied()
        } else {
            self.memo_counts.get(&(memo, at, counts)).copied()
        };
        match known {
            Some(HOPELESS) => Some(false),
            Some(FOUND) => Some(true),
            _ => None,
        }
    }

    fn learn(
        &mut self,
        memo: usize,
        at: usize,
        counts: Counts,
        known: u8,
    ) -> Result<(), OutOfMemory> {
        if !self.remembering {
            return Ok(());
        }
        if counts != 0 {
            if self.memo_counts.len() >= COUNTS_LIMIT.min(self.memory / COUNT_BYTES) {
                return Err(OutOfMemory);
            }
            self.memo_counts.insert((memo, at, counts), known);
            return Ok(());
        }
        self.results += 1;
        if self.results > RESULTS_LIMIT {
            return Err(OutOfMemory);
        }
        if self.memo.is_empty() {
            let cells = self.cell(0, self.text.len() + 1);
            if cells > self.memory {
                return Err(OutOfMemory);
            }
            self.memo = vec![UNKNOWN; cells];
        }
        let cell = self.cell(memo, at);
        if let Some(slot) = self.memo.get_mut(cell) {
            *slot = known;
        }
        Ok(())
    }

    /// Forgets what is known of one position.
    fn forget(&mut self, at: usize) {
        let (from, to) = (self.cell(0, at), self.cell(0, at + 1));
        if let Some(row) = self.memo.get_mut(from..to) {
            row.fill(UNKNOWN);
        }
        if !self.memo_counts.is_empty() {
            self.memo_counts
                .retain(|(_, position, _), _| *position != at);
        }
    }

    /// The counts inside one more run of a repetition, or `None` when it already ran twice here.
    fn bump(
        &mut self,
        counts: Counts,
        limit: Option<usize>,
    ) -> Result<Option<Counts>, OutOfMemory> {
        let Some(which) = limit else {
            return Ok(Some(counts));
        };
        let mut set = self.counts.get(counts).cloned().unwrap_or_default();
        match set.binary_search_by_key(&which, |(w, _)| *w) {
            Ok(i) => match set.get_mut(i) {
                Some((_, times)) if *times < 2 => *times += 1,
                _ => return Ok(None),
            },
            Err(i) => set.insert(i, (which, 1)),
        }
        if let Some(known) = self.counts_index.get(&set) {
            return Ok(Some(*known));
        }
        self.counts_size += set.len() + 1;
        if self.counts_size > COUNTS_LIMIT.min(self.memory / COUNT_BYTES) {
            return Err(OutOfMemory);
        }
        self.counts.push(set.clone());
        let new = self.counts.len() - 1;
        self.counts_index.insert(set, new);
        Ok(Some(new))
    }
}

//! The counts that `NIX_SHOW_STATS` prints, under Nix's names.

use nivis_eval::Machine;
use std::fmt::Write;

/// CPU time and memory of the process, which the caller measures.
#[derive(Clone, Copy, Default, Debug)]
pub struct ProcessUse {
    /// Seconds of CPU time, in the program and in the system.
    pub cpu_seconds: f64,
}

/// The counts as a JSON document.
///
/// Bytes are those of this evaluator's own layout. What costs something to count, and that C++ Nix prints only with
/// `NIX_COUNT_CALLS`, is not there.
pub fn stats_json(m: &Machine, process: ProcessUse) -> String {
    const WORD: u64 = 8;
    let s = &m.heap.stats;
    let cpu = process.cpu_seconds;
    let gc = s.collecting.as_secs_f64();
    let gc_fraction = if cpu > 0.0 { (gc / cpu).min(1.0) } else { 0.0 };
    let symbols = m.symbols.len();
    let symbol_bytes = m.symbols.bytes();
    let mut out = String::new();
    // Writing into a string does not fail.
    let _ = write!(
        out,
        r#"{{
  "cpuTime": {cpu},
  "envs": {{
    "bytes": {},
    "elements": {},
    "number": {}
  }},
  "gc": {{
    "cycles": {},
    "heapSize": {},
    "totalBytes": {}
  }},
  "list": {{
    "bytes": {},
    "concats": {},
    "elements": {}
  }},
  "nrAvoided": {},
  "nrExprs": {},
  "nrFunctionCalls": {},
  "nrLookups": {},
  "nrOpUpdateValuesCopied": {},
  "nrOpUpdates": {},
  "nrPrimOpCalls": {},
  "nrThunks": {},
  "sets": {{
    "bytes": {},
    "elements": {},
    "number": {}
  }},
  "sizes": {{
    "Attr": {WORD},
    "Bindings": {WORD},
    "Env": {},
    "Value": {WORD}
  }},
  "symbols": {{
    "bytes": {symbol_bytes},
    "number": {symbols}
  }},
  "time": {{
    "cpu": {cpu},
    "gc": {gc},
    "gcFraction": {gc_fraction}
  }},
  "values": {{
    "bytes": {},
    "number": {}
  }}
}}"#,
        (s.env_slots + 2 * s.envs) * WORD,
        s.env_slots,
        s.envs,
        m.heap.collections(),
        m.heap.mapped_bytes(),
        m.heap.total_bytes(),
        (s.list_elements + s.lists) * WORD,
        s.list_concats,
        s.list_elements,
        s.avoided,
        m.code_size(),
        s.function_calls,
        s.lookups,
        s.update_values_copied,
        s.updates,
        s.primop_calls,
        m.heap.thunks_created(),
        (s.attrs + s.attrsets) * WORD,
        s.attrs,
        s.attrsets,
        2 * WORD,
        (2 * m.heap.thunks_created()) * WORD,
        m.heap.thunks_created() + s.list_elements + s.attrs + s.env_slots,
    );
    out
}

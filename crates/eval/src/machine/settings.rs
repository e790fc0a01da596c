//! What an evaluation may do.

use std::path::PathBuf;

/// What an evaluation may do and how far it may go.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Nothing outside the program may be seen: no environment, no time, no absolute paths.
    pub pure_eval: bool,
    /// Only the search path and [`Settings::allowed_paths`] may be read.
    pub restrict_eval: bool,
    /// Nested calls before the error "stack overflow".
    pub max_call_depth: u32,
    /// Bytes handed out before the first collection; later ones come when the heap has doubled.
    pub collect_after: usize,
    /// Bytes of heap and stacks before the error "out of memory".
    pub memory_limit: usize,
    /// Whether `builtins.traceVerbose` shows anything.
    pub trace_verbose: bool,
    /// Whether warnings are errors.
    pub abort_on_warn: bool,
    /// Whether `throw` and the like show the trace of functions called.
    pub show_trace: bool,
    /// Experimental features that are switched on, by Nix's names.
    pub features: Vec<String>,
    /// `builtins.currentSystem`
    pub system: String,
    /// `builtins.storeDir`
    pub store_dir: String,
    /// The search path: prefix (may be empty) and path.
    pub nix_path: Vec<(String, String)>,
    /// Files that may be read in restricted and pure mode.
    pub allowed_paths: Vec<PathBuf>,
    /// Literals that are objected to.
    pub lints: crate::lint::Lints,
}

impl Settings {
    /// Whether an experimental feature is on.
    pub fn feature(&self, name: &str) -> bool {
        self.features.iter().any(|f| f == name)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            pure_eval: false,
            restrict_eval: false,
            max_call_depth: 10_000,
            collect_after: 256 << 20,
            memory_limit: usize::MAX,
            trace_verbose: false,
            abort_on_warn: false,
            show_trace: false,
            features: Vec::new(),
            system: format!(
                "{}-{}",
                std::env::consts::ARCH,
                match std::env::consts::OS {
                    "macos" => "darwin",
                    os => os,
                }
            ),
            store_dir: "/nix/store".to_string(),
            nix_path: Vec::new(),
            allowed_paths: Vec::new(),
            lints: crate::lint::Lints::default(),
        }
    }
}

//! `nivis parse` and `nix-instantiate --parse`.

use crate::session::{Failure, print};
use nivis::diagnostic::Diagnostic;
use nivis::render::render;
use std::path::{Path, PathBuf};

/// Parses a text and prints its tree: as `nix-instantiate --parse` does, or as an S-expression.
///
/// # Errors
/// When the text does not parse.
pub fn print_tree(
    text: &[u8],
    origin: &str,
    dir: &Path,
    features: &[&str],
    sexpr: bool,
) -> Result<(), Failure> {
    let options = nivis::syntax::ParseOptions {
        pipe_operators: features.contains(&"pipe-operators"),
    };
    // Names that nothing binds are found when a file is compiled.
    let mut m = nivis::eval::Machine::new(
        std::rc::Rc::new(nivis::builtins::host::MemoryHost::new()),
        nivis::eval::Settings {
            features: features.iter().map(|f| f.to_string()).collect(),
            ..Default::default()
        },
    );
    nivis::builtins::install(&mut m);
    let origin = nivis::eval::Origin::Text(origin.trim_matches(['«', '»']).into());
    if let Err(e) = m.load_text(text, origin, dir) {
        let options = crate::session::render_options(false);
        let diagnostic = Diagnostic::resolve(&m, &e);
        let text = render(&diagnostic, &options);
        return Err(Failure::Shown(text, Box::new(diagnostic)));
    }
    let tree = nivis::syntax::parse(text, &options).map_err(|errors| {
        Failure::Other(
            errors
                .first()
                .map_or_else(String::new, |e| e.message.to_string()),
        )
    })?;
    let mut out = if sexpr {
        tree.to_sexpr().into_bytes()
    } else {
        let home = std::env::var("HOME").unwrap_or_default();
        tree.to_nix_parse_bytes(&dir.display().to_string(), &home)
    };
    out.push(b'\n');
    print(&out)
}

/// The file that an argument means: a folder means its `default.nix`.
pub fn resolve(cwd: &Path, name: &str) -> PathBuf {
    let joined = cwd.join(name);
    let canonical = nivis::eval::machine::canonical_path(joined.as_os_str().as_encoded_bytes());
    let mut path = nivis::eval::machine::bytes_path(&canonical).to_path_buf();
    if path.is_dir() {
        path.push("default.nix");
    }
    path
}

/// The failure of reading a file.
pub fn unreadable(path: &Path, e: &std::io::Error) -> Failure {
    if e.kind() == std::io::ErrorKind::NotFound {
        Failure::Other(format!("path '{}' does not exist", path.display()))
    } else {
        Failure::Other(format!("cannot read '{}': {e}", path.display()))
    }
}

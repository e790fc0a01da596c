//! `nivis eval --write-to`: a string as a file, a set of strings as a folder.

use crate::session::Failure;
use nivis::eval::{Error, Machine, Type, Value};
use nivis_store::io_text;
use std::path::{Path, PathBuf};

/// Writes a value below a path that must not exist.
///
/// # Errors
/// When the path exists, a name is no file name, a value is neither string nor set, or writing fails; only then something
/// may have been written.
pub fn write_to(m: &mut Machine, value: Value, path: &Path) -> Result<(), Failure> {
    if std::fs::symlink_metadata(path).is_ok() {
        return Err(Failure::Other(format!(
            "path '{}' already exists",
            path.display()
        )));
    }
    // All is evaluated before anything is written. What is found stays reachable from the value.
    let root = m.root(value);
    let mut plan: Vec<(PathBuf, Value)> = Vec::new();
    let mut todo: Vec<(Value, PathBuf)> = vec![(value, path.to_path_buf())];
    while let Some((value, path)) = todo.pop() {
        let value = m.force(value)?;
        match value.type_of() {
            Type::String => {}
            Type::Attrs => {
                let attrs = m.want_attrs(value)?;
                for (symbol, value, _) in m.sorted_attrs(attrs).into_iter().rev() {
                    let name = m.symbols.text(symbol);
                    if matches!(name.as_str(), "" | "." | "..") || name.contains(['/', '\0']) {
                        return Err(Failure::Other(format!("invalid file name '{name}'")));
                    }
                    todo.push((value, path.join(name)));
                }
            }
            _ => {
                return Err(Failure::Eval(Error::type_error(format!(
                    "value at '{}' is not a string or an attribute set",
                    path.display()
                ))));
            }
        }
        plan.push((path, value));
    }
    for (path, value) in plan {
        let written = match value.as_string() {
            Some(text) => std::fs::write(&path, text.bytes()),
            None => std::fs::create_dir(&path),
        };
        written.map_err(|e| {
            Failure::Other(format!(
                "cannot write '{}': {}",
                path.display(),
                io_text(&e)
            ))
        })?;
    }
    m.unroot(root);
    Ok(())
}

//! `nivis eval --write-to`: a string as a file, a set of strings as a folder.

use crate::session::Failure;
use nivis::eval::{Error, Machine, Type, Value};
use std::path::{Path, PathBuf};

/// Writes a value below a path that must not exist.
///
/// # Errors
/// When the path exists, a name is no file name, a value is neither string nor set, or writing fails.
pub fn write_to(m: &mut Machine, value: Value, path: &Path) -> Result<(), Failure> {
    if std::fs::symlink_metadata(path).is_ok() {
        return Err(Failure::Other(format!(
            "path '{}' already exists",
            path.display()
        )));
    }
    let root = m.root(value);
    let mut todo: Vec<(Value, PathBuf)> = vec![(value, path.to_path_buf())];
    while let Some((value, path)) = todo.pop() {
        let value = m.force(value)?;
        let fail =
            |e: std::io::Error| Failure::Other(format!("cannot write '{}': {e}", path.display()));
        match value.type_of() {
            Type::String => {
                let text = m.want_string(value)?;
                std::fs::write(&path, text.bytes()).map_err(fail)?;
            }
            Type::Attrs => {
                std::fs::create_dir(&path).map_err(fail)?;
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
    }
    m.unroot(root);
    Ok(())
}

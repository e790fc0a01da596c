//! Importing a `.drv` file from the store: the derivation as a value.

use crate::derivations::store_dir;
use crate::hashing::store_error;
use nivis_eval::context::ContextElement;
use nivis_eval::machine::bytes_path;
use nivis_eval::{Error, ErrorKind, Machine, Origin, PosId, Result, Step, StringRef};
use nivis_store::{Derivation, DownstreamPlaceholder};
use std::path::Path;

/// The step that imports `path` as a derivation; `None` if it is no `.drv` file of the store.
///
/// # Errors
/// When the file cannot be read, or is no derivation.
pub(crate) fn derivation(m: &mut Machine, path: StringRef) -> Result<Option<Step>> {
    if !path.bytes().ends_with(b".drv") {
        return Ok(None);
    }
    let store = store_dir(m)?;
    let Ok(drv_path) = store.parse(path.bytes()) else {
        return Ok(None);
    };
    let file = bytes_path(path.bytes());
    if !matches!(m.host.file_type(file), Ok(Some(_))) {
        return Ok(None);
    }
    let text = m.host.read_file(file).map_err(|e| {
        Error::new(
            ErrorKind::Host,
            format!("cannot read '{}': {e}", path.to_text()),
        )
    })?;
    let name = drv_path.derivation_name().map_err(store_error)?;
    let drv = Derivation::parse_aterm(&store, name, &text).map_err(store_error)?;

    let mut paths = Vec::new();
    let mut outputs = Vec::new();
    for (output, kind) in &drv.outputs {
        let text = match kind.path(&store, &drv.name, output).map_err(store_error)? {
            Some(path) => store.print(&path),
            None => DownstreamPlaceholder::unknown_ca_output(&drv_path, output)
                .map_err(store_error)?
                .render(),
        };
        let context = m.contexts.single(ContextElement::Output {
            drv: path.bytes().into(),
            output: output.as_bytes().into(),
        });
        let text = m.heap.string(text.as_bytes(), context);
        let symbol = m.symbols.intern(output.as_bytes());
        paths.push((symbol, PosId::NONE, text));
        outputs.push(m.symbol_string(symbol));
    }
    let context = m
        .contexts
        .single(ContextElement::DrvDeep(path.bytes().into()));
    let drv_path = m.heap.string(path.bytes(), context);
    let name = drv.env.iter().find(|(key, _)| key.as_slice() == b"name");
    let name = m.string(name.map_or(&b""[..], |(_, name)| name));
    let outputs = m.heap.list(&outputs);
    let paths = m.attrs(paths);
    let names = [m.symbols.intern(b"outputs"), m.symbols.intern(b"paths")];
    let known = m.known;
    let arg = m.attrs([
        (known.name, PosId::NONE, name),
        (known.drv_path, PosId::NONE, drv_path),
        (names[0], PosId::NONE, outputs),
        (names[1], PosId::NONE, paths),
    ]);
    let function = m.load_text(
        include_bytes!("imported.nix"),
        Origin::Text("<nix/imported-drv-to-derivation.nix>".into()),
        Path::new("/"),
    )?;
    m.push(function);
    m.push(arg);
    Ok(Some(Step::TailCall(1)))
}

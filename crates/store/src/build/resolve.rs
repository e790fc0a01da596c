//! Derivations whose inputs are known only once they are built: filling in what they turned out to be.

use super::settings::BuildSettings;
use crate::derivation::{
    Derivation, DerivationKind, DerivationOutput, DrvHashMemo, InputOutputs, OutputName,
};
use crate::error::{Error, ErrorKind, Result};
use crate::placeholder::DownstreamPlaceholder;
use crate::store_path::{StoreDir, StorePath};
use bstr::{BString, ByteSlice};
use std::collections::BTreeMap;

/// An output of an input: the path from its derivation, through outputs that are derivations, to it.
pub(super) type Chain = (StorePath, Vec<OutputName>);

/// Whether a derivation has to be resolved before it is built.
pub(super) fn should_resolve(drv: &Derivation, settings: &BuildSettings) -> Result<bool> {
    if drv.input_drvs.is_empty() {
        return Ok(false);
    }
    let by_kind = match drv.kind()? {
        DerivationKind::InputAddressed => false,
        // Not needed, but it saves builds.
        DerivationKind::CaFixed => settings.feature("ca-derivations"),
        DerivationKind::Deferred | DerivationKind::CaFloating | DerivationKind::Impure => true,
    };
    Ok(by_kind || drv.has_dynamic_inputs())
}

/// All outputs that a derivation takes from others.
pub(super) fn input_chains(drv: &Derivation) -> Vec<Chain> {
    let mut chains = Vec::new();
    for (path, outputs) in &drv.input_drvs {
        let mut todo: Vec<(Vec<OutputName>, &InputOutputs)> = vec![(Vec::new(), outputs)];
        while let Some((prefix, node)) = todo.pop() {
            for output in node.outputs() {
                let mut chain = prefix.clone();
                chain.push(output.clone());
                chains.push((path.clone(), chain));
            }
            for (output, below) in node.dynamic() {
                let mut prefix = prefix.clone();
                prefix.push(output.clone());
                todo.push((prefix, below));
            }
        }
    }
    chains
}

/// The string that stands for the end of a chain.
fn placeholder((path, outputs): &Chain) -> Result<Option<String>> {
    let mut outputs = outputs.iter();
    let Some(first) = outputs.next() else {
        return Ok(None);
    };
    let mut found = DownstreamPlaceholder::unknown_ca_output(path, first)?;
    for output in outputs {
        found = found.unknown_derivation(output);
    }
    Ok(Some(found.render()))
}

/// The derivation with paths in place of its input derivations, and its path. What was built of the inputs is in
/// `known`, which must have all of [`input_chains`].
pub(super) fn resolve(
    store: &StoreDir,
    drv: &Derivation,
    known: &BTreeMap<Chain, StorePath>,
) -> Result<(StorePath, Derivation)> {
    let mut resolved = drv.clone();
    resolved.input_drvs.clear();
    let mut rewrites: Vec<(String, String)> = Vec::new();
    for chain in input_chains(drv) {
        let path = known.get(&chain).ok_or_else(|| {
            Error::new(
                ErrorKind::Build,
                format!("output of '{}' is not known", store.print(&chain.0)),
            )
        })?;
        if let Some(placeholder) = placeholder(&chain)? {
            rewrites.push((placeholder, store.print(path)));
        }
        resolved.input_srcs.insert(path.clone());
    }
    let rewrite = |text: &BString| -> BString {
        let mut text = text.clone();
        for (from, to) in &rewrites {
            if text.contains_str(from) {
                text = text.replace(from, to).into();
            }
        }
        text
    };
    resolved.builder = rewrite(&resolved.builder);
    resolved.args = resolved.args.iter().map(rewrite).collect();
    resolved.env = resolved
        .env
        .iter()
        .map(|(name, value)| (rewrite(name), rewrite(value)))
        .collect();
    resolved.structured_attrs = resolved.structured_attrs.as_ref().map(rewrite);
    // No inputs are left whose hashes would be needed. This gives deferred outputs their paths.
    let path = resolved.finish(store, &mut DrvHashMemo::new())?;
    debug_assert!(
        !resolved
            .outputs
            .values()
            .any(|output| matches!(output, DerivationOutput::Deferred))
    );
    Ok((path, resolved))
}

//! "Did you mean": names that are a few edits away.

/// At most three names close to `name`, best first.
pub(crate) fn similar(name: &str, candidates: impl Iterator<Item = String>) -> Vec<String> {
    /// Sets larger than this are only searched for names of nearly the same length.
    const LIMIT: usize = 3;
    let mut found: Vec<(usize, String)> = candidates
        .filter(|c| c.len().abs_diff(name.len()) <= LIMIT && c != name && !c.starts_with("__"))
        .filter_map(|c| {
            let d = distance(name.as_bytes(), c.as_bytes(), LIMIT);
            (d <= LIMIT && 2 * d <= name.len() + 1).then_some((d, c))
        })
        .collect();
    found.sort();
    found.dedup();
    let best = found.first().map_or(0, |f| f.0);
    // Others nearly as good count only when more of the name is right than wrong.
    let near = |d: usize| d == best || (d == best + 1 && 2 * d <= name.len());
    found
        .into_iter()
        .filter(|f| near(f.0))
        .take(3)
        .map(|f| f.1)
        .collect()
}

/// Levenshtein's distance, given up beyond `limit`.
fn distance(a: &[u8], b: &[u8], limit: usize) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        let mut best = row[0];
        for (j, y) in b.iter().enumerate() {
            let cost = if x == y {
                diagonal
            } else {
                1 + diagonal.min(row[j]).min(row[j + 1])
            };
            diagonal = row[j + 1];
            row[j + 1] = cost;
            best = best.min(cost);
        }
        if best > limit {
            return limit + 1;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_close_by_are_found() {
        let names = ["foo", "foobar", "fo", "bar"].map(String::from);
        assert_eq!(similar("fooo", names.clone().into_iter()), ["foo", "fo"]);
        assert!(similar("quux", names.into_iter()).is_empty());
    }
}

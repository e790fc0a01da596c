//! Settings from `nix.conf`, `NIX_CONFIG` and flags.

use crate::setting_names::{
    ALIASES, DEFAULTS, EXPERIMENTAL, FEATURES, NUMBERS, SANDBOX_FLAGS, SWITCHES, VALUED,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A command line or configuration that cannot be used, with its message.
#[derive(Debug)]
pub struct UsageError(pub String);

/// Where a setting came from; later ones win.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Source {
    File,
    Flag,
}

/// Takes that many values of a flag from the command line.
pub type Next<'a> = dyn FnMut(&str, usize) -> Result<Vec<String>, UsageError> + 'a;

/// All settings given anywhere, by name.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    values: BTreeMap<String, (String, SourceOrDefault)>,
    /// Shown once evaluation starts; collected so that nothing is printed while parsing flags.
    pub warnings: Vec<String>,
}

type SourceOrDefault = Option<Source>;

impl Settings {
    /// Reads the configuration files that Nix reads, and `NIX_CONFIG`.
    ///
    /// # Errors
    /// When a line is no `NAME = VALUE`, or an included file is missing.
    pub fn load() -> Result<Settings, UsageError> {
        let mut settings = Settings::default();
        if env("NIX_ABORT_ON_WARN").is_some_and(|v| matches!(v.as_str(), "1" | "yes" | "true")) {
            settings
                .values
                .insert("abort-on-warn".into(), ("true".into(), None));
        }
        settings.apply_file(&system_file())?;
        for file in user_files().iter().rev() {
            settings.apply_file(file)?;
        }
        if let Some(text) = env("NIX_CONFIG") {
            settings.apply(&text, Path::new("NIX_CONFIG"))?;
        }
        Ok(settings)
    }

    fn apply_file(&mut self, path: &Path) -> Result<(), UsageError> {
        match std::fs::read(path) {
            Ok(bytes) => self.apply(&String::from_utf8_lossy(&bytes), path),
            Err(_) => Ok(()),
        }
    }

    fn apply(&mut self, text: &str, path: &Path) -> Result<(), UsageError> {
        let mut parsed = Vec::new();
        parse_lines(text, path, 0, &mut parsed)?;
        let nix_path_given = std::env::var_os("NIX_PATH").is_some();
        for (name, value) in parsed {
            if nix_path_given && matches!(name.as_str(), "nix-path" | "extra-nix-path") {
                continue;
            }
            self.set_if_known(&name, &value, Source::File)?;
        }
        Ok(())
    }

    /// The same as [`Settings::set`], but a setting that nobody knows is only warned about.
    ///
    /// # Errors
    /// When the value does not fit.
    pub fn set_if_known(
        &mut self,
        name: &str,
        value: &str,
        source: Source,
    ) -> Result<(), UsageError> {
        match self.set(name, value, source) {
            Err(UsageError(message)) if message.starts_with("unknown setting") => {
                self.warnings.push(message);
                Ok(())
            }
            result => result,
        }
    }

    /// The same for `--option`: whatever is wrong is only warned about.
    pub fn set_option(&mut self, name: &str, value: &str) {
        if let Err(UsageError(message)) = self.set(name, value, Source::Flag) {
            self.warnings.push(message);
        }
    }

    /// Sets a setting; `extra-NAME` appends to a list.
    ///
    /// # Errors
    /// When there is no such setting or the value does not fit.
    pub fn set(&mut self, name: &str, value: &str, source: Source) -> Result<(), UsageError> {
        let resolved = ALIASES
            .iter()
            .find(|(alias, _)| *alias == name)
            .map_or(name, |(_, name)| name);
        if matches!(
            resolved,
            "experimental-features" | "extra-experimental-features"
        ) {
            for feature in value.split_whitespace().filter(|f| !FEATURES.contains(f)) {
                self.warnings.push(match feature {
                    "no-url-literals" => {
                        self.values.insert(
                            "lint-url-literals".into(),
                            ("fatal".into(), Some(source)),
                        );
                        "experimental feature 'no-url-literals' has been stabilized and renamed; use 'lint-url-literals = fatal' setting instead".to_string()
                    }
                    _ => format!("unknown experimental feature '{feature}'"),
                });
            }
        }
        if let Some(base) = resolved.strip_prefix("extra-")
            && VALUED.contains(&base)
        {
            // Without a value of its own, what is added comes on top of the default.
            let place = if self.values.contains_key(base) {
                base
            } else {
                resolved
            };
            let before = self.get(place).unwrap_or_default();
            let joined = format!("{before} {value}");
            self.values
                .insert(place.to_string(), (joined.trim().to_string(), Some(source)));
            return Ok(());
        }
        let wrong = if NUMBERS.contains(&resolved) || resolved == MEMORY_LIMIT {
            (bytes_of(value).is_none())
                .then(|| format!("setting '{resolved}' has invalid value '{value}'"))
        } else if resolved == "max-jobs" {
            (value != "auto" && value.parse::<u32>().is_err()).then(|| {
                "configuration setting 'max-jobs' should be 'auto' or an integer".to_string()
            })
        } else if resolved == "sandbox" {
            (value != "relaxed" && bool_of(value).is_none())
                .then(|| format!("option 'sandbox' has invalid value '{value}'"))
        } else if SWITCHES.contains(&resolved) {
            bool_of(value)
                .is_none()
                .then(|| format!("Boolean setting '{resolved}' has invalid value '{value}'"))
        } else if resolved == "max-call-depth" {
            (value.parse::<u32>().is_err())
                .then(|| format!("setting '{resolved}' has invalid value '{value}'"))
        } else if resolved.starts_with("lint-") && VALUED.contains(&resolved) {
            (!matches!(value, "ignore" | "warn" | "fatal")).then(|| {
                format!("option '{resolved}' has invalid value '{value}' (expected 'ignore', 'warn', or 'fatal')")
            })
        } else if VALUED.contains(&resolved) {
            None
        } else {
            return Err(UsageError(format!("unknown setting '{name}'")));
        };
        if let Some(message) = wrong {
            return Err(UsageError(message));
        }
        self.values.remove(&format!("extra-{resolved}"));
        self.values
            .insert(resolved.to_string(), (value.to_string(), Some(source)));
        Ok(())
    }

    /// The value of a setting that was given, and is there.
    pub fn get(&self, name: &str) -> Option<&str> {
        let (value, _) = self.values.get(name)?;
        self.lacks(name).is_none().then_some(value.as_str())
    }

    /// The experimental feature that a setting would need and that is off.
    pub fn lacks(&self, name: &str) -> Option<&'static str> {
        let (_, feature) = EXPERIMENTAL.iter().find(|(n, _)| *n == name)?;
        let on = self.list("experimental-features");
        (!on.iter().any(|f| f == feature)).then_some(*feature)
    }

    /// The settings that were given in vain, each with the experimental feature that is off, and whether by a flag.
    pub fn in_vain(&self) -> impl Iterator<Item = (&'static str, &'static str, bool)> {
        EXPERIMENTAL.iter().filter_map(|(name, _)| {
            self.values.get(*name)?;
            Some((*name, self.lacks(name)?, self.by_flag(name)))
        })
    }

    /// Whether a switch is on; `None` when it was not given.
    pub fn switch(&self, name: &str) -> Option<bool> {
        self.get(name).and_then(bool_of)
    }

    /// Whether a flag (and no file) gave this setting.
    pub fn by_flag(&self, name: &str) -> bool {
        self.values
            .get(name)
            .is_some_and(|(_, s)| *s == Some(Source::Flag))
    }

    /// The words of a list setting, without those of its default.
    pub fn list(&self, name: &str) -> Vec<String> {
        let words = self.get(name).unwrap_or_default().split_whitespace();
        words.map(String::from).chain(self.extra(name)).collect()
    }

    /// The words of a list setting; those of its default unless others were given in their place.
    pub fn list_or_default(&self, name: &str) -> Vec<String> {
        let default = DEFAULTS.iter().find(|(n, _)| *n == name);
        let default = default.map_or("", |(_, value)| *value);
        let words = self.get(name).unwrap_or(default).split_whitespace();
        words.map(String::from).chain(self.extra(name)).collect()
    }

    /// The words that come on top of a list setting's default.
    pub fn extra(&self, name: &str) -> Vec<String> {
        let words = self.get(&format!("extra-{name}")).unwrap_or_default();
        words.split_whitespace().map(String::from).collect()
    }

    /// Takes a long flag that names a setting: `--pure-eval`, `--no-pure-eval`, `--system X`. Returns whether
    /// it was one; `next` gives its value.
    ///
    /// # Errors
    /// When the value is missing or does not fit.
    pub fn flag(&mut self, flag: &str, next: &mut Next<'_>) -> Result<bool, UsageError> {
        let Some(name) = flag.strip_prefix("--") else {
            return Ok(false);
        };
        let resolved = ALIASES
            .iter()
            .find(|(alias, _)| *alias == name)
            .map_or(name, |(_, name)| name);
        if SWITCHES.contains(&resolved) {
            self.set(resolved, "true", Source::Flag)?;
            return Ok(true);
        }
        if let Some(base) = name.strip_prefix("no-")
            && SWITCHES.contains(&base)
        {
            self.set(base, "false", Source::Flag)?;
            return Ok(true);
        }
        if let Some((_, value)) = SANDBOX_FLAGS.iter().find(|(f, _)| *f == resolved) {
            self.set("sandbox", value, Source::Flag)?;
            return Ok(true);
        }
        let base = resolved.strip_prefix("extra-").unwrap_or(resolved);
        if VALUED.contains(&base) || base == MEMORY_LIMIT {
            let values = next(flag, 1)?;
            self.set(
                resolved,
                values.first().map_or("", String::as_str),
                Source::Flag,
            )?;
            return Ok(true);
        }
        Ok(false)
    }

    /// A number that was given, suffixes included.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.get(name).and_then(bytes_of).map(|n| n as u64)
    }

    /// All settings that were given, by name.
    pub fn given(&self) -> impl Iterator<Item = (&str, &str)> {
        let there = self.values.iter().filter(|(n, _)| self.lacks(n).is_none());
        there.map(|(n, (v, _))| (n.as_str(), v.as_str()))
    }

    /// The memory limit in bytes: the one given, else three quarters of what the machine and its limits allow.
    pub fn memory_limit(&self) -> usize {
        self.get(MEMORY_LIMIT)
            .and_then(bytes_of)
            .unwrap_or_else(default_memory_limit)
    }
}

/// A setting of nivis' own: bytes, with an optional suffix `K`, `M`, `G` or `T`.
pub const MEMORY_LIMIT: &str = "nivis-memory-limit";

fn env(name: &str) -> Option<String> {
    std::env::var_os(name).map(|v| v.to_string_lossy().into_owned())
}

/// The configuration file of the machine.
pub fn system_file() -> PathBuf {
    let dir = env("NIX_CONF_DIR").unwrap_or_else(|| "/etc/nix".into());
    Path::new(&dir).join("nix.conf")
}

/// The configuration files of the user, those that matter most first.
pub fn user_files() -> Vec<PathBuf> {
    if let Some(files) = env("NIX_USER_CONF_FILES") {
        return files
            .split(':')
            .filter(|f| !f.is_empty())
            .map(PathBuf::from)
            .collect();
    }
    let home = env("HOME").unwrap_or_default();
    let own = env("NIX_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| env("XDG_CONFIG_HOME").map(|d| Path::new(&d).join("nix")))
        .unwrap_or_else(|| Path::new(&home).join(".config/nix"));
    let dirs = env("XDG_CONFIG_DIRS").unwrap_or_else(|| "/etc/xdg".into());
    std::iter::once(own)
        .chain(
            dirs.split(':')
                .filter(|d| !d.is_empty())
                .map(|d| Path::new(d).join("nix")),
        )
        .map(|d| d.join("nix.conf"))
        .collect()
}

/// Files that include each other deeper than this are refused.
const INCLUDES: u32 = 32;

fn parse_lines(
    text: &str,
    path: &Path,
    depth: u32,
    out: &mut Vec<(String, String)>,
) -> Result<(), UsageError> {
    for line in text.split('\n') {
        let line = line.split('#').next().unwrap_or("");
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let wrong = || {
            UsageError(format!(
                "syntax error in configuration line '{line}' in '{}'",
                path.display()
            ))
        };
        match words.as_slice() {
            [] => {}
            [include @ ("include" | "!include"), file] => {
                let file = path.parent().unwrap_or(Path::new("/")).join(file);
                if depth >= INCLUDES {
                    return Err(UsageError(format!(
                        "too many nested includes in '{}'",
                        path.display()
                    )));
                }
                match std::fs::read(&file) {
                    Ok(bytes) => {
                        parse_lines(&String::from_utf8_lossy(&bytes), &file, depth + 1, out)?;
                    }
                    Err(_) if *include == "!include" => {}
                    Err(_) => {
                        return Err(UsageError(format!(
                            "file '{}' included from '{}' not found",
                            file.display(),
                            path.display()
                        )));
                    }
                }
            }
            [name, "=", values @ ..] => out.push((name.to_string(), values.join(" "))),
            _ => return Err(wrong()),
        }
    }
    Ok(())
}

fn bool_of(text: &str) -> Option<bool> {
    match text {
        "true" | "yes" | "1" => Some(true),
        "false" | "no" | "0" => Some(false),
        _ => None,
    }
}

/// A number of a flag, with an optional suffix for units of 1024.
///
/// # Errors
/// Other suffixes, and what is no number.
pub fn number_of(text: &str) -> Result<u64, UsageError> {
    if let Some(n) = bytes_of(text) {
        return Ok(n as u64);
    }
    let last = text.chars().last().filter(char::is_ascii_alphabetic);
    match last.map(|c| c.to_ascii_uppercase()) {
        Some(unit) if !"KMGT".contains(unit) => {
            Err(UsageError(format!("invalid unit specifier '{unit}'")))
        }
        unit => {
            let digits = &text[..text.len() - unit.map_or(0, char::len_utf8)];
            Err(UsageError(format!("'{digits}' is not an integer")))
        }
    }
}

/// A number with an optional suffix for units of 1024.
pub fn bytes_of(text: &str) -> Option<usize> {
    let (digits, shift) = match text.as_bytes().last()? {
        b'K' | b'k' => (&text[..text.len() - 1], 10),
        b'M' | b'm' => (&text[..text.len() - 1], 20),
        b'G' | b'g' => (&text[..text.len() - 1], 30),
        b'T' | b't' => (&text[..text.len() - 1], 40),
        _ => (text, 0),
    };
    digits.parse::<usize>().ok()?.checked_mul(1 << shift)
}

/// Three quarters of the smallest of: the machine's memory, the control group's limit, the address space limit.
fn default_memory_limit() -> usize {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let kib = |line: &str| -> Option<usize> {
        line.split_whitespace()
            .nth(1)?
            .parse::<usize>()
            .ok()?
            .checked_mul(1024)
    };
    let total = read("/proc/meminfo")
        .lines()
        .find(|l| l.starts_with("MemTotal:"))
        .and_then(kib);
    let group = read("/sys/fs/cgroup/memory.max")
        .trim()
        .parse::<usize>()
        .ok();
    let space = read("/proc/self/limits")
        .lines()
        .find_map(|l| l.strip_prefix("Max address space"))
        .and_then(|l| l.split_whitespace().next()?.parse::<usize>().ok());
    let limits = [total, group, space];
    limits
        .into_iter()
        .flatten()
        .min()
        .map_or(usize::MAX, |m| m / 4 * 3)
}

/// The elements of a search path: separated by colons, which URLs may contain.
pub fn parse_nix_path(text: &str) -> Vec<String> {
    let mut elements: Vec<String> = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let mut end = rest.find(':').unwrap_or(rest.len());
        let value = rest[..end].rfind('=').map_or(0, |i| i + 1);
        if end < rest.len()
            && (is_pseudo_url(&rest[value..]) || rest[value..].starts_with("flake:"))
        {
            end = rest[end + 1..]
                .find(':')
                .map_or(rest.len(), |i| end + 1 + i);
        }
        if end > 0 || end < rest.len() {
            elements.push(rest[..end].to_string());
        }
        rest = rest.get(end + 1..).unwrap_or("");
    }
    elements
}

/// Whether a search path's element is to be downloaded.
pub fn is_pseudo_url(text: &str) -> bool {
    const SCHEMES: [&str; 7] = ["http", "https", "file", "channel", "git", "s3", "ssh"];
    text.starts_with("channel:")
        || text
            .split_once("://")
            .is_some_and(|(scheme, _)| SCHEMES.contains(&scheme))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn search_paths_may_hold_urls() {
        assert_eq!(parse_nix_path("a:b=/c"), ["a", "b=/c"]);
        assert_eq!(
            parse_nix_path("n=https://x/y.tar.gz:z"),
            ["n=https://x/y.tar.gz", "z"]
        );
        assert_eq!(
            parse_nix_path("n=channel:nixos:z=flake:nixpkgs"),
            ["n=channel:nixos", "z=flake:nixpkgs"]
        );
        assert!(parse_nix_path("").is_empty());
    }

    #[test]
    fn sizes() {
        assert_eq!(bytes_of("4G"), Some(4 << 30));
        assert_eq!(bytes_of("123"), Some(123));
        assert_eq!(bytes_of("x"), None);
        assert_eq!(bytes_of("99999999999999T"), None);
    }

    #[test]
    fn configuration() {
        let mut s = Settings::default();
        let text = "# c\nexperimental-features = flakes cgroups\nextra-experimental-features = a\nnonsense = 1\n";
        assert!(s.apply(text, Path::new("/x")).is_ok());
        assert_eq!(s.list("experimental-features"), ["flakes", "cgroups", "a"]);
        assert_eq!(s.warnings.len(), 2);
        assert!(s.apply("nonsense", Path::new("/x")).is_err());
        assert!(s.apply("pure-eval = maybe", Path::new("/x")).is_err());
    }
}

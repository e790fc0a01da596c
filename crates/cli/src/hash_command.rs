//! `nivis hash` and `nix-hash`: hashes of files and folders, and their spellings.

use crate::common::Arguments;
use crate::progress::LogFormat;
use crate::session::{Common, Failure, print, warn};
use crate::store_command::{needs_git_hashing, wrong_usage};
use clap::{Args, Subcommand};
use nivis::store::nar::FileSystem;
use nivis::store::{ContentAddressMethod, Hash, HashAlgorithm, HashFormat, Hasher, hash, ingest};
use nivis_store::local::CaseHack;
use std::io::Read;
use std::path::{Path, PathBuf};

#[derive(Subcommand)]
pub enum HashCommand {
    /// Print the hash of a file or folder, as the store computes it
    Path(PathArgs),
    /// Print the hash of a file's contents
    File(FileArgs),
    /// Convert hashes between formats
    Convert(ConvertArgs),
    /// Convert hashes to base 16
    #[command(name = "to-base16", hide = true)]
    ToBase16(ToArgs),
    /// Convert hashes to base 32
    #[command(name = "to-base32", hide = true)]
    ToBase32(ToArgs),
    /// Convert hashes to base 64
    #[command(name = "to-base64", hide = true)]
    ToBase64(ToArgs),
    /// Convert hashes to SRI
    #[command(name = "to-sri", hide = true)]
    ToSri(ToArgs),
}

#[derive(Args)]
pub struct FileArgs {
    /// Files
    paths: Vec<PathBuf>,
    /// The algorithm: blake3, md5, sha1, sha256 or sha512
    #[arg(long = "type", value_name = "ALGORITHM")]
    algorithm: Option<String>,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Args)]
pub struct PathArgs {
    /// Files and folders
    paths: Vec<PathBuf>,
    /// The algorithm: blake3, md5, sha1, sha256 or sha512
    #[arg(long = "algo", alias = "type", value_name = "ALGORITHM")]
    algorithm: Option<String>,
    /// What is hashed: the archive (nar), the contents (flat) or the Git object (git)
    #[arg(long, value_name = "METHOD", default_value = "nar")]
    mode: String,
    /// The format: base16, nix32, base64 or sri
    #[arg(long = "format", value_name = "FORMAT")]
    named: Option<String>,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Args)]
struct FormatArgs {
    /// Print in SRI format, the default
    #[arg(long)]
    sri: bool,
    /// Print in base 64
    #[arg(long)]
    base64: bool,
    /// Print in base 32
    #[arg(long)]
    base32: bool,
    /// Print in base 16
    #[arg(long)]
    base16: bool,
}

#[derive(Args)]
pub struct ConvertArgs {
    /// Hashes
    hashes: Vec<String>,
    /// The format that they must have
    #[arg(long)]
    from: Option<String>,
    /// The format to print: base16, nix32, base64 or sri
    #[arg(long, default_value = "sri")]
    to: String,
    /// Their algorithm, unless they say it
    #[arg(long = "hash-algo", alias = "algo", value_name = "ALGORITHM")]
    algorithm: Option<String>,
}

#[derive(Args)]
pub struct ToArgs {
    /// Hashes
    hashes: Vec<String>,
    /// Their algorithm, unless they say it
    #[arg(long = "type", value_name = "ALGORITHM")]
    algorithm: Option<String>,
}

impl FormatArgs {
    fn format(&self) -> HashFormat {
        match (self.base64, self.base32, self.base16) {
            (true, ..) => HashFormat::Base64,
            (_, true, _) => HashFormat::Nix32,
            (_, _, true) => HashFormat::Base16,
            _ => HashFormat::Sri,
        }
    }
}

/// Runs `nivis hash`.
///
/// # Errors
/// Unknown names, files that cannot be read, hashes that are none.
pub fn run(common: &Common, command: HashCommand) -> Result<(), Failure> {
    match command {
        HashCommand::Path(args) => {
            let method = wrong_usage(ContentAddressMethod::parse(&args.mode))?;
            needs_git_hashing(common, method)?;
            let format = match &args.named {
                Some(name) => hash_format(name)?,
                None => args.format.format(),
            };
            let algorithm = maybe_algorithm(common, &args.algorithm)?;
            for path in &args.paths {
                show(
                    hash_path(
                        path,
                        method,
                        algorithm.unwrap_or(HashAlgorithm::Sha256),
                        false,
                    )?,
                    format,
                )?;
            }
            Ok(())
        }
        HashCommand::File(args) => {
            let algorithm = maybe_algorithm(common, &args.algorithm)?;
            for path in &args.paths {
                let hash = hash_file(path, algorithm.unwrap_or(HashAlgorithm::Sha256))?;
                show(hash, args.format.format())?;
            }
            Ok(())
        }
        HashCommand::Convert(args) => convert(common, &args),
        HashCommand::ToBase16(args) => to(common, &args, HashFormat::Base16),
        HashCommand::ToBase32(args) => to(common, &args, HashFormat::Nix32),
        HashCommand::ToBase64(args) => to(common, &args, HashFormat::Base64),
        HashCommand::ToSri(args) => to(common, &args, HashFormat::Sri),
    }
}

/// The algorithm of a name; some are an experiment.
///
/// # Errors
/// Names that nothing has, algorithms that are not switched on.
pub fn algorithm(common: &Common, name: &str) -> Result<HashAlgorithm, Failure> {
    switched_on(common, wrong_usage(HashAlgorithm::parse(name))?)
}

fn switched_on(common: &Common, algorithm: HashAlgorithm) -> Result<HashAlgorithm, Failure> {
    if algorithm == HashAlgorithm::Blake3 {
        common.needs_feature("blake3-hashes")?;
    }
    Ok(algorithm)
}

fn maybe_algorithm(
    common: &Common,
    name: &Option<String>,
) -> Result<Option<HashAlgorithm>, Failure> {
    name.as_deref()
        .map(|name| algorithm(common, name))
        .transpose()
}

fn show(hash: Hash, format: HashFormat) -> Result<(), Failure> {
    let text = match format {
        HashFormat::Sri => hash.to_sri(),
        format => hash.encode(format),
    };
    print(format!("{text}\n").as_bytes())
}

fn hash_format(name: &str) -> Result<HashFormat, Failure> {
    if let Some(warning) = HashFormat::warning(name) {
        warn(warning);
    }
    wrong_usage(HashFormat::parse(name))
}

fn convert(common: &Common, args: &ConvertArgs) -> Result<(), Failure> {
    let from = args.from.as_deref().map(hash_format).transpose()?;
    let to = hash_format(&args.to)?;
    let algorithm = maybe_algorithm(common, &args.algorithm)?;
    for text in &args.hashes {
        let (hash, format) = Hash::parse_any_with_format(text, algorithm)?;
        switched_on(common, hash.algorithm())?;
        if let Some(from) = from
            && from != format
        {
            return Err(Failure::Other(format!(
                "input hash '{text}' has format '{}', but '--from {}' was specified",
                format.name(),
                from.name()
            )));
        }
        show(hash, to)?;
    }
    Ok(())
}

fn to(common: &Common, args: &ToArgs, format: HashFormat) -> Result<(), Failure> {
    warn(
        "The old format conversion subcommands of `nix hash` were deprecated in favor of `nix hash convert`.",
    );
    let algorithm = maybe_algorithm(common, &args.algorithm)?;
    for text in &args.hashes {
        let hash = Hash::parse_any(text, algorithm)?;
        switched_on(common, hash.algorithm())?;
        show(hash, format)?;
    }
    Ok(())
}

/// The hash of a file's contents; pipes and links are read as well.
fn hash_file(path: &Path, algorithm: HashAlgorithm) -> Result<Hash, Failure> {
    let fail = |e: std::io::Error| {
        Failure::Other(format!(
            "opening file '{}': {}",
            path.display(),
            nivis_store::io_text(&e)
        ))
    };
    let mut file = std::fs::File::open(path).map_err(fail)?;
    let mut hasher = Hasher::new(algorithm);
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(n) => hasher.update(buffer.get(..n).unwrap_or_default()),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(fail(e)),
        }
    }
}

fn hash_path(
    path: &Path,
    method: ContentAddressMethod,
    algorithm: HashAlgorithm,
    case_hack: bool,
) -> Result<Hash, Failure> {
    if method == ContentAddressMethod::Flat {
        return hash_file(path, algorithm);
    }
    let node = FileSystem::node(without_links_on_the_way(path)?);
    if case_hack {
        return Ok(ingest::hash_tree(&mut CaseHack, &node, method, algorithm)?.hash);
    }
    Ok(ingest::hash_tree(&mut FileSystem, &node, method, algorithm)?.hash)
}

/// The path with the links of its folders followed, but not the last one.
pub fn without_links_on_the_way(path: &Path) -> Result<PathBuf, Failure> {
    let path = std::path::absolute(path)
        .map_err(|e| Failure::Other(format!("'{}': {e}", path.display())))?;
    if path
        .symlink_metadata()
        .is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound)
    {
        return Err(Failure::Other(format!(
            "path '{}' does not exist",
            path.display()
        )));
    }
    match (path.parent(), path.file_name()) {
        (Some(folder), Some(name)) => match folder.canonicalize() {
            Ok(folder) => Ok(folder.join(name)),
            Err(e) => Err(Failure::Other(format!(
                "cannot read '{}': {}",
                folder.display(),
                nivis_store::io_text(&e)
            ))),
        },
        _ => Ok(path),
    }
}

/// Runs `nix-hash`.
///
/// # Errors
/// Unknown flags and names, files that cannot be read, hashes that are none.
pub fn nix_hash(arguments: &mut Arguments, common: &mut Common) -> Result<(), Failure> {
    let mut flat = false;
    let mut truncate = false;
    let mut convert = false;
    let mut format = HashFormat::Base16;
    let mut algorithm = None;
    let mut words = Vec::new();
    while let Some(arg) = arguments.next(common)? {
        match arg.as_str() {
            // What follows is parsed all the same.
            "--" => {}
            "--flat" => flat = true,
            "--truncate" => truncate = true,
            "--type" => {
                algorithm = Some(arguments.value(&arg)?);
            }
            "--base16" => format = HashFormat::Base16,
            "--base32" => format = HashFormat::Nix32,
            "--base64" => format = HashFormat::Base64,
            "--sri" => format = HashFormat::Sri,
            "--to-base16" => (convert, format) = (true, HashFormat::Base16),
            "--to-base32" => (convert, format) = (true, HashFormat::Nix32),
            "--to-base64" => (convert, format) = (true, HashFormat::Base64),
            "--to-sri" => (convert, format) = (true, HashFormat::Sri),
            _ if arg.starts_with('-') => {
                return Err(Failure::Usage(format!("unrecognised flag '{arg}'")));
            }
            _ => words.push(arg),
        }
    }
    common.start_reporter(LogFormat::RawWithLogs);
    let algorithm = maybe_algorithm(common, &algorithm)?;
    if convert {
        for text in &words {
            let hash = Hash::parse_any(text, algorithm)?;
            switched_on(common, hash.algorithm())?;
            show(hash, format)?;
        }
        return Ok(());
    }
    let method = if flat {
        ContentAddressMethod::Flat
    } else {
        ContentAddressMethod::Nar
    };
    for path in &words {
        let found = hash_path(
            Path::new(path),
            method,
            algorithm.unwrap_or(HashAlgorithm::Md5),
            common.settings.switch("use-case-hack") == Some(true),
        )?;
        if truncate && found.as_bytes().len() > 20 {
            // What is cut has no name of an algorithm, so no SRI form either.
            let short = hash::compress_hash(found.as_bytes());
            match Hash::from_bytes(HashAlgorithm::Sha1, &short) {
                Some(short) if format != HashFormat::Sri => show(short, format)?,
                _ => show(found, format)?,
            }
        } else {
            show(found, format)?;
        }
    }
    Ok(())
}

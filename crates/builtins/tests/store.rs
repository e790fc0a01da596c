//! Strings, files, contexts, derivations and data formats: expressions and what they evaluate to, in `store/*.txt`.
//!
//! `common` has the format. Store paths and messages are what C++ Nix 2.34.8 gives for the same files on disk, where the
//! comment `# own` does not say otherwise.

mod common;

use nivis_builtins::host::{Access, MemoryHost, SystemHost};
use nivis_eval::{Host, Settings};
use nivis_store::StoreDir;
use std::path::{Path, PathBuf};
use std::rc::Rc;

fn world() -> MemoryHost {
    MemoryHost::new()
        .with_file("/t/files/a.txt", "hello\n")
        .with_program("/t/files/d/x", "x")
        .with_file("/t/files/d/e/y", "y")
        .with_link("/t/files/d/up", "../a.txt")
        .with_link("/t/files/link", "a.txt")
        .with_link("/t/files/dlink", "d")
        .with_link("/t/files/dangling", "nowhere")
        .with_file("/t/files/nul", b"a\0b")
        .with_file("/t/files/empty", "")
        .with_folder("/t/files/emptydir")
        .with_file("/t/files/bin", b"\xff")
        .with_folder("/tmp")
}

fn features() -> Settings {
    let features = [
        "ca-derivations",
        "impure-derivations",
        "dynamic-derivations",
        "blake3-hashes",
    ];
    Settings {
        features: features.map(String::from).to_vec(),
        ..Settings::default()
    }
}

fn evaluate(host: Rc<dyn Host>, settings: Settings, expression: &str) -> String {
    common::evaluate(host, settings, expression.as_bytes(), false)
}

macro_rules! themes {
    ($($theme:ident)*) => {
        $(
            #[test]
            fn $theme() {
                let cases = include_str!(concat!("store/", stringify!($theme), ".txt"));
                common::run(stringify!($theme), cases, &features(), || Rc::new(world()));
            }
        )*
    };
}

themes!(contexts data derivations files order strings);

#[test]
fn texts_that_evaluation_writes_reach_the_host() {
    let host = Rc::new(world());
    let text = "derivation { name = \"a\"; builder = \"b\"; system = \"c\"; script = builtins.toFile \"s\" \"t\"; }";
    let drv = evaluate(host.clone(), features(), &format!("({text}).drvPath"));
    let texts = host.texts();
    let drv = drv.trim_matches(['=', ' ', '"']).as_bytes();
    let aterm = String::from_utf8(texts[drv].clone()).unwrap();
    assert!(
        aterm.starts_with("Derive([(\"out\",\"/nix/store/"),
        "{aterm}"
    );
    assert!(texts.values().any(|t| t == b"t"));
    assert_eq!(texts.len(), 2);
}

/// A folder that is removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("nivis-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        // The folder for temporary files may lie behind a link.
        Scratch(path.canonicalize().unwrap())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let mut folders = vec![self.0.clone()];
        while let Some(folder) = folders.pop() {
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt;
                let _ = std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755));
            }
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|t| t.is_dir()) {
                    folders.push(entry.path());
                }
            }
        }
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(unix)]
fn fill(folder: &Path) {
    use std::os::unix::fs::{PermissionsExt, symlink};
    std::fs::create_dir_all(folder.join("d/e")).unwrap();
    std::fs::write(folder.join("a.txt"), "hello\n").unwrap();
    std::fs::write(folder.join("d/x"), "x").unwrap();
    std::fs::set_permissions(folder.join("d/x"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(folder.join("d/e/y"), "y").unwrap();
    symlink("../a.txt", folder.join("d/up")).unwrap();
}

#[test]
#[cfg(unix)]
fn sources_and_derivations_are_written_to_a_store() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let scratch = Scratch::new("write");
    let (sources, store) = (scratch.0.join("files"), scratch.0.join("store"));
    fill(&sources);
    let host = Rc::new(SystemHost::new(StoreDir::default()).writing_to(&store));
    let text = format!(
        "(derivation {{ name = \"a\"; builder = \"b\"; system = \"c\"; d = {}; \
         f = builtins.filterSource (p: t: t == \"directory\") {}; }}).drvPath",
        sources.join("d").display(),
        sources.display()
    );
    let drv = evaluate(host, features(), &text);
    let written = |name: &str| {
        let mut all = std::fs::read_dir(&store)
            .unwrap()
            .flatten()
            .map(|e| e.path());
        all.find(|p| p.to_string_lossy().ends_with(name)).unwrap()
    };
    let drv = drv
        .trim_matches(['=', ' ', '"'])
        .strip_prefix("/nix/store/")
        .unwrap();
    let aterm = std::fs::read(store.join(drv)).unwrap();
    let parsed = nivis_store::Derivation::parse_aterm(&StoreDir::default(), "a", &aterm).unwrap();
    assert_eq!(parsed.input_srcs.len(), 2);
    // The same path as that of the same files in memory.
    let in_memory = evaluate(Rc::new(world()), features(), "\"${./files/d}\"");
    let d = written("-d");
    assert!(
        in_memory.contains(&*d.file_name().unwrap().to_string_lossy()),
        "{in_memory} {}",
        d.display()
    );
    let meta = std::fs::metadata(d.join("x")).unwrap();
    assert_eq!(
        (meta.permissions().mode() & 0o777, meta.mtime()),
        (0o555, 1)
    );
    assert_eq!(
        std::fs::metadata(&d).unwrap().permissions().mode() & 0o777,
        0o555
    );
    assert_eq!(
        std::fs::read_link(d.join("up")).unwrap(),
        Path::new("../a.txt")
    );
    assert!(!written("-files").join("a.txt").exists());
    assert!(written("-files").join("d/e").exists());
}

#[test]
#[cfg(unix)]
fn restrictions_hide_what_is_not_allowed() {
    let scratch = Scratch::new("access");
    fill(&scratch.0);
    let shown = scratch.0.display();
    for (access, mode) in [
        (Access::Restricted, "restricted mode"),
        (
            Access::Pure,
            "pure evaluation mode (use '--impure' to override)",
        ),
    ] {
        let host = SystemHost::new(StoreDir::default()).with_access(access);
        host.allow(scratch.0.join("d"));
        let host = Rc::new(host);
        let eval = |text: &str| {
            evaluate(
                host.clone(),
                features(),
                &text.replace("DIR", &shown.to_string()),
            )
        };
        let forbidden = |path: &str| {
            format!("! access to absolute path '{shown}{path}' is forbidden in {mode}")
        };
        assert_eq!(eval("builtins.readFile DIR/d/x"), "= \"x\"");
        assert_eq!(eval("builtins.readFile DIR/a.txt"), forbidden("/a.txt"));
        assert_eq!(eval("builtins.readFile DIR/d/up"), forbidden("/a.txt"));
        assert_eq!(eval("builtins.readDir DIR"), "= { d = \"directory\"; }");
        assert_eq!(eval("builtins.pathExists DIR/a.txt"), "= false");
        assert_eq!(eval("builtins.pathExists DIR"), "= true");
        assert_eq!(eval("import DIR/a.txt"), forbidden("/a.txt"));
        assert_eq!(eval("\"${DIR/a.txt}\""), forbidden("/a.txt"));
        assert_eq!(
            eval("(builtins.toFile \"a\" \"b\")"),
            "= \"/nix/store/g76zcpqc540lrc8i6g7xy6ip0npn2hnp-a\""
        );
        // Of a folder that is only on the way, what is allowed is taken.
        let all = eval("\"${DIR}\"");
        assert!(all.starts_with("= \"/nix/store/"), "{all}");
    }
}

#[test]
fn deep_and_endless_values_end_in_errors() {
    let overflow = "! stack overflow; max-call-depth exceeded";
    for text in [
        "let x = { a = x; }; in builtins.toJSON x",
        "let x = [ x ]; in builtins.toJSON x",
        "let x = { outPath = y; }; y = { outPath = x; }; in builtins.toJSON x",
        "let x = { __toString = _: x; }; in builtins.toJSON x",
        "let x = { __toString = _: x; }; in toString x",
        "let x = { __toString = _: x; }; in builtins.readFile x",
        "let x = { a = x; }; in builtins.toXML x",
        "let x = [ x ]; in builtins.toXML x",
    ] {
        assert_eq!(
            evaluate(Rc::new(world()), features(), text),
            overflow,
            "{text}"
        );
    }
    let nested = "builtins.concatStringsSep \"\" (builtins.genList (i: if i < 100000 then \"[\" else \"]\") 200000)";
    assert_eq!(
        evaluate(
            Rc::new(world()),
            features(),
            &format!("builtins.length (builtins.fromJSON ({nested}))")
        ),
        "= 1"
    );
    assert_eq!(
        evaluate(
            Rc::new(world()),
            features(),
            &format!("builtins.toJSON (builtins.fromJSON ({nested}))")
        ),
        overflow
    );
}

#[test]
fn endless_output_meets_the_limits() {
    // A value of few objects whose text has 2^60 elements.
    let text =
        "let f = n: if n == 0 then [ 1 ] else let x = f (n - 1); in [ x x ]; in WRITE (f 60)";
    for write in ["builtins.toJSON", "builtins.toXML"] {
        let settings = Settings {
            memory_limit: 64 << 20,
            ..features()
        };
        let found = evaluate(Rc::new(world()), settings, &text.replace("WRITE", write));
        assert!(found.starts_with("! out of memory"), "{found}");
    }
}

#[test]
fn traces_name_derivation_and_attribute() {
    let mut m = common::machine(Rc::new(world()), features());
    let text = "(derivation { name = \"a\"; builder = \"b\"; system = \"c\"; src = throw \"oh\"; }).drvPath";
    let error = common::value(&mut m, text.as_bytes()).unwrap_err();
    let steps: Vec<&str> = error
        .trace()
        .into_iter()
        .map(|t| t.message.as_str())
        .collect();
    assert!(
        steps.contains(&"while evaluating attribute 'src' of derivation 'a'"),
        "{steps:?}"
    );
    assert!(
        steps.contains(
            &"while evaluating derivation 'a'\n  whose name attribute is located at «case»:1:15"
        ),
        "{steps:?}"
    );
}

#[test]
fn what_split_makes_counts_as_memory() {
    // Texts and groups are 400 million values.
    let text = "builtins.length (builtins.split (builtins.concatStringsSep \"\" (builtins.genList (x: \"()\") 20000)) \
                (builtins.concatStringsSep \"\" (builtins.genList (x: \"a\") 20000)))";
    let settings = Settings {
        memory_limit: 32 << 20,
        ..features()
    };
    let found = evaluate(Rc::new(world()), settings.clone(), text);
    assert!(found.starts_with("! out of memory"), "{found}");
    // So does what matching has to remember.
    let text = "builtins.match \"((a|b)*c|d)*e\" (builtins.concatStringsSep \"\" (builtins.genList (x: \"a\") 300000))";
    let settings = Settings {
        memory_limit: 24 << 20,
        ..settings
    };
    let found = evaluate(Rc::new(world()), settings, text);
    assert_eq!(
        found,
        "! memory limit exceeded by regular expression '((a|b)*c|d)*e'"
    );
}

#[test]
fn what_is_kept_beside_the_heap_counts_as_memory() {
    let file = format!("{{ {} }}", many_attributes());
    let host = || Rc::new(world().with_file("/t/big.nix", &file));
    for text in [
        // Contexts, of which each is larger than the one before.
        "builtins.foldl' (a: i: a + \"${builtins.toFile \"n${toString i}\" \"\"}\") \"\" (builtins.genList (i: i) 20000)",
        // Names.
        "builtins.foldl' (a: i: builtins.length (builtins.attrNames { ${\"${toString i}-some-name-of-some-length\"} = 1; })) 0 \
         (builtins.genList (i: i) 1000000)",
        // Code.
        "builtins.foldl' (a: i: builtins.seq (scopedImport { } ./big.nix) 1) 0 (builtins.genList (i: i) 30000)",
        // Errors of thunks that failed.
        "builtins.length (builtins.filter (i: (builtins.tryEval (throw \"t\")).success) (builtins.genList (i: i) 1000000))",
        // The traces of errors.
        "let s = builtins.concatStringsSep \"\" (builtins.genList (i: \"0123456789\") 100000); \
         f = n: if n == 0 then throw s else builtins.addErrorContext s (f (n - 1)); in f 500",
        // Texts that are put together from one long string.
        "let s = builtins.concatStringsSep \"\" (builtins.genList (i: \"0123456789\") 100000); in \
         builtins.stringLength (builtins.toXML (builtins.genList (i: s) 3000))",
        "let s = builtins.concatStringsSep \"\" (builtins.genList (i: \"0123456789\") 100000); in \
         (derivation ({ name = \"a\"; system = \"b\"; builder = \"c\"; } // builtins.listToAttrs (builtins.genList \
         (i: { name = \"x${toString i}\"; value = s; }) 1000))).drvPath",
        // Documents.
        "builtins.fromJSON (builtins.concatStringsSep \"\" ([ \"[0\" ] ++ builtins.genList (i: \",0\") 2000000 ++ [ \"]\" ]))",
        "builtins.fromTOML (builtins.concatStringsSep \"\" ([ \"a=[0\" ] ++ builtins.genList (i: \",0\") 500000 ++ [ \"]\" ]))",
        "let f = n: if n == 0 then [ ] else [ (f (n - 1)) (f (n - 1)) ]; in builtins.deepSeq (f 20) 1",
    ] {
        let settings = Settings {
            memory_limit: 40 << 20,
            collect_after: 4 << 20,
            ..features()
        };
        let found = evaluate(host(), settings, text);
        assert!(found.starts_with("! out of memory"), "{found}\n{text}");
    }
}

/// Two thousand bindings of functions.
fn many_attributes() -> String {
    (0..2000).map(|i| format!("a{i} = x: x + {i}; ")).collect()
}

#[test]
fn what_is_printed_meets_the_limit() {
    let settings = Settings {
        memory_limit: 40 << 20,
        ..features()
    };
    let mut m = common::machine(Rc::new(world()), settings);
    let text = "let s = builtins.concatStringsSep \"\" (builtins.genList (i: \"0123456789\") 100000); in \
                builtins.genList (i: s) 3000";
    let value = common::value(&mut m, text.as_bytes()).unwrap();
    let options = nivis_eval::print::PrintOptions::CLASSIC;
    let error = m.try_print(value, &options).unwrap_err();
    assert_eq!(error.kind(), nivis_eval::ErrorKind::Memory);
    assert!(
        m.print(value, &options)
            .ends_with("«out of memory»".as_bytes())
    );
}

/// Reading a pipe does not wait for somebody to write to it: like all files, it has as many bytes as it says.
#[test]
#[cfg(target_os = "linux")]
fn pipes_are_empty_files() {
    let folder = std::env::temp_dir().join(format!("nivis-pipe-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let pipe = folder.join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    if made.is_ok_and(|status| status.success()) {
        let host = nivis_builtins::host::SystemHost::new(nivis_store::StoreDir::default());
        let contents = nivis_eval::Host::read_file(&host, &pipe).unwrap();
        assert_eq!(contents, b"");
        // What is too large for the room that is left is not read at all.
        let large = folder.join("large");
        let file = std::fs::File::create(&large).unwrap();
        file.set_len(1 << 40).unwrap();
        let error = nivis_eval::Host::read_file_within(&host, &large, 1 << 20).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::OutOfMemory);
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

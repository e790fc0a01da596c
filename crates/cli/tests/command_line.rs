//! Where the command line differs from that of C++ Nix, as `docs/compatibility.md` lists it, and usage that fails.

mod common;

use common::Folder;

/// Settings for a store in the test's folder, with builds in the open.
fn settings(dir: &Folder) -> Vec<(&'static str, String)> {
    let below = |name: &str| dir.path().join(name).display().to_string();
    vec![
        ("NIX_STORE_DIR", below("store")),
        ("NIX_STATE_DIR", below("state")),
        ("NIX_LOG_DIR", below("log")),
        ("PATH", "/bin:/usr/bin".to_string()),
        (
            "NIX_CONFIG",
            "build-users-group =\nsandbox = false\n".to_string(),
        ),
    ]
}

fn run(dir: &Folder, name: &str, args: &[&str]) -> common::Outcome {
    let env = settings(dir);
    let env: Vec<(&str, &str)> = env.iter().map(|(n, v)| (*n, v.as_str())).collect();
    dir.named(name, args, &env, "")
}

#[test]
fn other_stores_are_refused() {
    let dir = Folder::new();
    let path = "/nix/store/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-foo";
    for (uri, scheme) in [
        ("daemon", "unix"),
        ("ssh-ng://host", "ssh-ng"),
        ("https://cache.nixos.org", "https"),
        ("file:///cache", "file"),
        ("local-overlay://", "local-overlay"),
    ] {
        let outcome = dir.nivis(&["path-info", "--store", uri, path]);
        let wanted = format!("error: don't know how to open Nix store with scheme '{scheme}'");
        assert_eq!(outcome.error(), wanted);
        // Evaluation that writes nothing needs no store.
        let outcome = dir.nivis(&["eval", "--store", uri, "-E", "1 + 1"]);
        assert_eq!(outcome.quiet(), "2\n");
    }
    assert_eq!(
        dir.nivis(&["path-info", "--store", "bogus", path]).error(),
        "error: Cannot parse Nix store 'bogus'"
    );
}

#[test]
fn what_is_evaluated_and_what_is_built_may_be_in_two_stores() {
    let dir = Folder::new();
    dir.write("source", "text\n").write(
        "default.nix",
        r#"let sh = name: script: derivation {
             inherit name;
             system = builtins.currentSystem;
             builder = "/bin/sh";
             args = [ "-c" script ];
             source = ./source;
           };
           in {
             a = sh "a" "read line < $source; echo $line > $out";
             read = builtins.readFile (sh "b" "echo built > $out");
           }"#,
    );
    let other = dir.path().join("other").display().to_string();
    let eval = |args: &[&str]| {
        let args = [args, &["-f", "default.nix", "--eval-store", &other]].concat();
        run(&dir, "nivis", &args)
    };
    let built = eval(&["build", "a", "--no-link", "--print-out-paths"]);
    assert_eq!(built.status, 0, "{built:?}");
    let out = dir.path().join("store").join(
        std::path::Path::new(built.out.trim())
            .file_name()
            .unwrap_or_default(),
    );
    assert_eq!(std::fs::read_to_string(out).ok().as_deref(), Some("text\n"));
    // Derivations stay where they were evaluated; sources are where they are needed.
    let there = |place: &str, end: &str| {
        let entries = std::fs::read_dir(dir.path().join(place)).into_iter();
        let mut names = entries.flatten().flatten().map(|e| e.file_name());
        names.any(|n| n.to_string_lossy().ends_with(end))
    };
    let logical = format!("other{}", dir.path().join("store").display());
    for (end, evaluated, in_store) in [
        ("-a.drv", true, false),
        ("-source", true, true),
        ("-a", false, true),
    ] {
        let found = there(&logical, end) || there("other/nix/store", end);
        assert_eq!((found, there("store", end)), (evaluated, in_store), "{end}");
    }
    assert_eq!(eval(&["path-info", "a"]).out, built.out);
    let shown = eval(&["derivation", "show", "a"]);
    assert!(shown.out.contains("\"name\":\"a\""), "{shown:?}");
    // What evaluation reads is built in the store and copied to where it is read.
    let read = eval(&["eval", "read", "--raw"]);
    assert_eq!((read.status, read.out.as_str()), (0, "built\n"), "{read:?}");
    assert!(there("store", "-b"));
    // A store that keeps nothing does for evaluation.
    let args = [
        "eval",
        "-f",
        "default.nix",
        "a.name",
        "--eval-store",
        "dummy://",
    ];
    assert_eq!(run(&dir, "nivis", &args).quiet(), "\"a\"\n");
}

#[test]
fn flags_about_fetching_are_accepted() {
    let dir = Folder::new();
    let flags = ["--offline", "--refresh", "--fallback"];
    let args = [
        &["eval"],
        &flags[..],
        &["--override-flake", "a", "b", "-E", "1"],
    ]
    .concat();
    assert_eq!(dir.nivis(&args).quiet(), "1\n");
}

/// Where the usual store cannot be made, one below the home folder is; once, that is told.
#[test]
fn a_store_of_ones_own_is_told_once() {
    if nix::unistd::geteuid().is_root() || std::path::Path::new("/nix/var/nix").exists() {
        eprintln!("skipped: there is a usual store, or it can be made");
        return;
    }
    let dir = Folder::new();
    dir.write("file", "text\n");
    let add = |home: &str| {
        let home = dir.path().join(home).display().to_string();
        let env = [("HOME", home.as_str()), ("NIX_STATE_DIR", "")];
        let added = dir.named("nix-store", &["--add", "file"], &env, "");
        assert_eq!(added.status, 0, "{added:?}");
        added.err
    };
    let told = "warning: '/nix/var/nix' does not exist, so a store of your own is used: '/pwd/home/.local/share/nix/root'\n";
    assert_eq!(add("home"), told);
    assert_eq!(add("home"), "");
}

#[test]
fn what_is_not_there_is_refused() {
    let dir = Folder::new();
    for args in [
        &["--serve"][..],
        &["--generate-binary-cache-key", "a", "b", "c"],
    ] {
        let outcome = run(&dir, "nix-store", args);
        assert_eq!(outcome.error(), "error: no operation specified", "{args:?}");
    }
    for flag in ["--run-env", "--pure"] {
        let outcome = run(&dir, "nix-build", &[flag]);
        assert!(outcome.error().contains("nix-shell"), "{outcome:?}");
    }
    for name in ["nix-shell", "nix-env", "nix-channel", "nix-copy-closure"] {
        let outcome = run(&dir, name, &[]);
        assert_eq!(
            outcome.error(),
            format!("error: there is no command '{name}' here")
        );
    }
    for command in ["flake", "profile", "develop", "repl", "daemon"] {
        let outcome = run(&dir, "nix", &[command]);
        let wanted = format!("error: '{command}' is not a recognised command");
        assert_eq!(outcome.error(), wanted);
    }
}

#[test]
fn commands_need_no_experimental_feature() {
    let dir = Folder::new();
    let args = ["--experimental-features", "", "eval", "--expr", "1"];
    assert_eq!(run(&dir, "nix", &args).quiet(), "1\n");
    // Settings do.
    let outcome = run(&dir, "nix", &["config", "show", "--impure-env", "A=b"]);
    assert!(
        outcome
            .error()
            .contains("'configurable-impure-env' is disabled"),
        "{outcome:?}"
    );
    let env = [("NIX_CONFIG", "impure-env = A=b\n")];
    let outcome = dir.named("nix", &["config", "show", "impure-env"], &env, "");
    assert_eq!(outcome.status, 1);
    assert!(
        outcome
            .err
            .starts_with("warning: Ignoring setting 'impure-env' because experimental feature"),
        "{outcome:?}"
    );
    assert!(
        outcome.err.contains("could not find setting 'impure-env'"),
        "{outcome:?}"
    );
    // Stores that are never written do.
    let uri = dir.path().join("root?read-only=true").display().to_string();
    let outcome = run(&dir, "nix", &["path-info", "--all", "--store", &uri]);
    assert!(
        outcome
            .error()
            .contains("'read-only-local-store' is disabled"),
        "{outcome:?}"
    );
    // Hashes, too, however they are asked for.
    dir.write("file", "text\n");
    let hash = "a".repeat(64);
    let prefixed = format!("blake3:{hash}");
    for (name, args) in [
        ("nix-hash", &["--type", "blake3", "file"][..]),
        ("nix-hash", &["--to-sri", &prefixed]),
        ("nix", &["hash", "file", "--type", "blake3", "file"]),
        ("nix", &["hash", "path", "--algo", "blake3", "file"]),
        ("nix", &["hash", "convert", "--hash-algo", "blake3", &hash]),
        ("nix", &["hash", "convert", &prefixed]),
        ("nix", &["store", "add", "--hash-algo", "blake3", "file"]),
        ("nix-store", &["--add-fixed", "blake3", "file"]),
        ("nix-store", &["--print-fixed-path", "blake3", &hash, "x"]),
    ] {
        let outcome = run(&dir, name, args);
        let wanted = "error: experimental Nix feature 'blake3-hashes' is disabled; add '--extra-experimental-features blake3-hashes' to enable it";
        assert_eq!(outcome.error(), wanted, "{name} {args:?}");
        let feature = ["--extra-experimental-features", "blake3-hashes"];
        let outcome = run(&dir, name, &[args, &feature].concat());
        assert_eq!(outcome.status, 0, "{name} {args:?} {outcome:?}");
    }
}

/// Builds that reach the network see them at the usual place.
#[test]
fn certificates_are_those_of_the_environment() {
    let dir = Folder::new();
    let shown = |env: &[(&str, &str)], flags: &[&str]| {
        let args = [&["config", "show", "ssl-cert-file"], flags].concat();
        dir.named("nix", &args, env, "").quiet().to_string()
    };
    let ssl = ("SSL_CERT_FILE", "/certificates");
    assert_eq!(shown(&[ssl], &[]), "/certificates\n");
    let nix = ("NIX_SSL_CERT_FILE", "/others");
    assert_eq!(shown(&[ssl, nix], &[]), "/others\n");
    assert_eq!(shown(&[nix], &["--ssl-cert-file", "/own"]), "/own\n");
    assert_eq!(shown(&[nix], &["--ssl-cert-file", ""]), "\n");
}

#[test]
fn features_that_are_not_there_are_asked_for_in_vain() {
    let dir = Folder::new();
    for feature in ["recursive-nix", "uid-range"] {
        let expr = format!(
            r#"derivation {{
                 name = "n"; system = builtins.currentSystem; builder = "/bin/sh";
                 args = [ "-c" "echo > $out" ]; requiredSystemFeatures = [ "{feature}" ];
               }}"#
        );
        let outcome = run(&dir, "nix-build", &["--no-out-link", "-E", &expr]);
        assert_eq!(outcome.status, 100, "{outcome:?}");
        assert!(
            outcome.err.contains("Reason: missing system features"),
            "{outcome:?}"
        );
        assert!(
            outcome
                .err
                .contains(&format!("Required features: {{{feature}}}")),
            "{outcome:?}"
        );
    }
}

#[test]
fn signatures_are_counted() {
    let dir = Folder::new();
    dir.write("file", "text\n");
    let added = run(&dir, "nix-store", &["--add", "file"]);
    let expr = r#"derivation { name = "n"; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" "echo > $out" ]; }"#;
    let built = run(&dir, "nix-build", &["--no-out-link", "-E", expr]);
    assert_eq!((added.status, built.status), (0, 0), "{added:?} {built:?}");
    let place = |outcome: &common::Outcome| {
        let path = outcome
            .out
            .trim()
            .replace("/pwd", &dir.path().display().to_string());
        path.to_string()
    };
    let (added, built) = (place(&added), place(&built));
    let verify = |args: &[&str]| run(&dir, "nivis", &[&["store", "verify"], args].concat()).status;
    // What was built here is trusted unless signatures are asked for; what has a content address needs none.
    assert_eq!(verify(&[&added, &built]), 0);
    assert_eq!(verify(&["--all", "--recursive"]), 0);
    assert_eq!(verify(&["--sigs-needed", "1", &added]), 0);
    assert_eq!(verify(&["--sigs-needed", "1", &built]), 2);
    assert_eq!(verify(&["--sigs-needed", "1", "--no-trust", &built]), 0);

    // Somebody else's path, in a store below a folder, signed by C++ Nix with two keys.
    let root = dir.path().join("root").display().to_string();
    let path = "/nix/store/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-signed";
    dir.write(&format!("root{path}"), "text\n");
    let registered = dir.named(
        "nix-store",
        &["--store", &root, "--register-validity"],
        &[],
        &format!("{path}\n\n0\n"),
    );
    assert_eq!(registered.status, 0, "{registered:?}");
    let verify = |args: &[&str]| {
        let all = [&["store", "verify", "--store", &root, path], args].concat();
        let outcome = dir.named("nix", &all, &[], "");
        (outcome.status, outcome.err)
    };
    let checking = format!("checking '{path}'...\n");
    let untrusted = (2, format!("{checking}path '{path}' is untrusted\n"));
    assert_eq!(verify(&[]), untrusted);
    sign(
        &root,
        path,
        [
            "one:vPTmTXJ+d3nhP4AZQ6NUzCAROxvrs2bsNlq1WwOgKBfLgPw7I3CPt118iHSEAV42uKAXp7Mp302r+MCaJ169DA==",
            "two:x3dpT2PESEhLWo6fJk8EBAE2w/SJmFUecIxepOIGyqEOCpwf3+ZMxzIQK2tXoyTGmEL0OSoUalPyHYm9OyetBQ==",
            // One of another path.
            "two:JprO4WP1G25IssTgjx+ybaIlcPKUfRnPq6qxOibi1CYFL4xRKywwe6KrXDmyaT3EjZys1kwFXkCMA4L+7YzBBw==",
        ],
    );
    let good = (0, checking.clone());
    let (one, two) = (
        "one:fCxiGOOKhq5/grBfJRshzgDNxbBBkMp/MJVxkeu/OSM=",
        "two:mqGM4SBIQebXaj7XQ09NOtrw6sbzjUooajP/1qlladw=",
    );
    let both = format!("{one} {two}");
    assert_eq!(verify(&[]), untrusted);
    assert_eq!(verify(&["--trusted-public-keys", one]), good);
    assert_eq!(verify(&["--extra-trusted-public-keys", one]), good);
    assert_eq!(
        verify(&["-n", "2", "--trusted-public-keys", one]),
        untrusted
    );
    assert_eq!(verify(&["-n", "2", "--trusted-public-keys", &both]), good);
    assert_eq!(
        verify(&["-n", "3", "--trusted-public-keys", &both]),
        untrusted
    );
    // A key of one's own; keys that cannot be read do not count.
    dir.write(
        "secret",
        "one:lVqaodquMITZW8NeEwOFwENUbjRJlri2NHdxscgoggR8LGIY44qGrn+CsF8lGyHOAM3FsEGQyn8wlXGR6785Iw==\n",
    );
    let secret = dir.path().join("secret").display().to_string();
    assert_eq!(verify(&["--secret-key-files", &secret]), good);
    assert_eq!(verify(&["--secret-key-files", "/nowhere"]), untrusted);
    let (status, text) = verify(&["--trusted-public-keys", "one"]);
    assert_eq!((status, text.as_str()), (1, "error: key is corrupt\n"));

    // Signatures of another store, which is asked as well.
    let other = dir.path().join("other").display().to_string();
    dir.write(&format!("other{path}"), "text\n");
    let registered = dir.named(
        "nix-store",
        &["--store", &other, "--register-validity"],
        &[],
        &format!("{path}\n\n0\n"),
    );
    assert_eq!(registered.status, 0, "{registered:?}");
    let asked = |keys: &str| {
        let all = ["store", "verify", "--store", &other, path, "-s", &root];
        let all = [&all[..], &["--trusted-public-keys", keys]].concat();
        dir.named("nix", &all, &[], "").status
    };
    assert_eq!((asked(one), asked("")), (0, 2));

    // Damage and distrust are told together.
    make_writable(&dir, &format!("root{path}"));
    dir.write(&format!("root{path}"), "other\n");
    let (status, text) = verify(&["-n", "3"]);
    assert_eq!(status, 3, "{text}");
    assert!(
        text.contains("was modified! expected hash 'sha256:"),
        "{text}"
    );
    assert_eq!(verify(&["--no-contents", "--no-trust"]), good);
    std::fs::remove_file(dir.path().join(format!("root{path}"))).expect("it is there");
    let (status, text) = verify(&["-n", "3"]);
    assert_eq!(status, 4, "{text}");
    assert!(
        text.contains(&format!("error: path '{path}' does not exist")),
        "{text}"
    );
}

/// Puts signatures beside a path of a store below a folder.
fn sign<const N: usize>(root: &str, path: &str, signatures: [&str; N]) {
    use nivis_store::local::{LocalStore, StoreConfig};
    let dir = nivis_store::StoreDir::default();
    let path = dir.parse(path).expect("a store path");
    let store = LocalStore::open(StoreConfig::at_root(dir, root)).expect("a store");
    let mut info = store.query_path_info(&path).expect("it is valid");
    info.signatures = signatures.map(String::from).into();
    store.register([&info]).expect("it is registered again");
}

fn make_writable(dir: &Folder, name: &str) {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(dir.path().join(name), mode).expect("it is there");
}

#[test]
fn usage_errors_have_the_words_of_nix() {
    let dir = Folder::new();
    let first = |args: &[&str]| {
        let outcome = run(&dir, "nix", args);
        assert!(
            outcome
                .err
                .ends_with("Try 'nix --help' for more information.\n"),
            "{outcome:?}"
        );
        outcome.error().to_string()
    };
    assert_eq!(
        first(&["build", "--bogus"]),
        "error: unrecognised flag '--bogus'"
    );
    assert_eq!(first(&["log", "a", "b"]), "error: unexpected argument 'b'");
    assert_eq!(first(&["log"]), "error: more arguments are required");
    assert_eq!(
        first(&["bogus"]),
        "error: 'bogus' is not a recognised command"
    );
    assert_eq!(first(&[]), "error: no subcommand specified");
    assert!(first(&["hash"]).starts_with("error: nix hash requires a sub-command."));
    let near = run(&dir, "nix", &["buil"]);
    assert!(near.err.contains("Did you mean build?"), "{near:?}");
    let wrong = dir.named(
        "nix",
        &["config", "show"],
        &[("NIX_CONFIG", "cores = x\n")],
        "",
    );
    assert_eq!(
        wrong.error(),
        "error: setting 'cores' has invalid value 'x'"
    );
    // What `--option` says is only warned about; flags and files must be right.
    for (setting, message) in [
        ("cores", "setting 'cores' has invalid value 'x'"),
        (
            "keep-going",
            "Boolean setting 'keep-going' has invalid value 'x'",
        ),
        ("sandbox", "option 'sandbox' has invalid value 'x'"),
        (
            "max-jobs",
            "configuration setting 'max-jobs' should be 'auto' or an integer",
        ),
        (
            "lint-url-literals",
            "option 'lint-url-literals' has invalid value 'x' (expected 'ignore', 'warn', or 'fatal')",
        ),
    ] {
        let args = ["--option", setting, "x", "--eval", "-E", "1"];
        let outcome = run(&dir, "nix-instantiate", &args);
        assert_eq!((outcome.status, outcome.out.as_str()), (0, "1\n"));
        assert_eq!(outcome.err, format!("warning: {message}\n"));
        let conf = format!("{setting} = x\n");
        let env = [("NIX_CONFIG", conf.as_str())];
        let outcome = dir.named("nix-instantiate", &["--eval", "-E", "1"], &env, "");
        assert_eq!(outcome.error(), format!("error: {message}"));
    }
    assert_eq!(
        first(&["build", "--timeout", "x"]),
        "error: invalid unit specifier 'X'"
    );
    assert_eq!(
        first(&["build", "--timeout", "1:"]),
        "error: '1:' is not an integer"
    );
    assert_eq!(
        first(&["store", "verify", "--sigs-needed"]),
        "error: flag '--sigs-needed' requires 1 argument(s), but only 0 were given"
    );
    let unknown = dir.named(
        "nix",
        &["config", "show", "cores"],
        &[("NIX_CONFIG", "bogus = x\n")],
        "",
    );
    assert_eq!((unknown.status, unknown.out.as_str()), (0, "0\n"));
    assert_eq!(unknown.err, "warning: unknown setting 'bogus'\n");
}

#[test]
fn completions_as_scripts_of_nix_ask_for_them() {
    let dir = Folder::new();
    dir.write(
        "foo/default.nix",
        "{ outputs.first = 1; outputs.fifth = 2; other = 3; }",
    )
    .write("err.nix", "throw \"error\"");
    let complete = |number: &str, args: &[&str]| {
        let env = [("NIX_GET_COMPLETIONS", number)];
        dir.named("nix", args, &env, "").quiet().to_string()
    };
    assert_eq!(complete("1", &["buil"]), "normal\nbuild\t\n");
    assert_eq!(complete("2", &["build", "./f"]), "filenames\n./foo\t\n");
    assert_eq!(complete("2", &["build", "./nonexistent"]), "filenames\n");
    assert!(complete("2", &["build", "--log-form"]).starts_with("normal\n--log-format\t"));
    assert_eq!(
        complete("4", &["eval", "--file", "./foo", "outp"]),
        "attrs\noutputs\t\n"
    );
    assert_eq!(
        complete("4", &["build", "-f", "./foo", "outputs.fi"]),
        "attrs\noutputs.fifth\t\noutputs.first\t\n"
    );
    assert_eq!(
        complete("4", &["eval", "--file", "./err.nix", "outp"]),
        "attrs\n"
    );
}

#[test]
fn json_is_for_people_on_request() {
    let dir = Folder::new();
    let json = |flag: &str| {
        let args = ["eval", "--json", flag, "--expr", "{ a.b = [ 1 ]; }"];
        dir.nivis(&args).quiet().to_string()
    };
    assert_eq!(json("--no-pretty"), "{\"a\":{\"b\":[1]}}\n");
    let pretty = "{\n  \"a\": {\n    \"b\": [\n      1\n    ]\n  }\n}\n";
    assert_eq!(json("--pretty"), pretty);
}

#[test]
fn links_lead_into_the_store() {
    let dir = Folder::new();
    dir.write("folder/sub/file", "text\n");
    let added = run(&dir, "nix-store", &["--add", "folder"]);
    let target = added
        .out
        .trim()
        .replace("/pwd", &dir.path().display().to_string());
    assert!(std::os::unix::fs::symlink(target, dir.path().join("result")).is_ok());
    let cat = run(&dir, "nivis", &["store", "cat", "./result/sub/file"]);
    assert_eq!(cat.quiet(), "text\n");
    let missing = run(&dir, "nivis", &["store", "cat", "./result/other"]);
    assert_eq!(
        missing.error(),
        "error: path './result/other' does not exist"
    );
    let dump = run(&dir, "nivis", &["store", "dump", "./result"]);
    let archive = run(&dir, "nivis", &["nar", "pack", "folder"]);
    assert_eq!((dump.status, dump.out), (0, archive.out));
    let ls = run(&dir, "nivis", &["store", "ls", "./result/sub"]);
    assert_eq!(ls.quiet(), "./file\n");
    let outside = run(&dir, "nivis", &["store", "cat", "./folder/sub/file"]);
    assert_eq!(
        outside.error(),
        "error: path './folder/sub/file' is not in the Nix store"
    );
}

//! Stores and builds through the command, in stores of their own below a temporary folder. The shell is the machine's,
//! shown to builds by `sandbox-paths`.

mod common;

use common::{Folder, Outcome};

/// What builds see of the machine: enough for its shell.
const SHOWN: &str = "/bin? /usr? /lib? /lib64?";

/// A folder with a store and some shared expressions.
struct World {
    dir: Folder,
    /// What stands before the paths of the store where its files are.
    real: String,
    /// The folder that paths begin with.
    store: String,
    flags: Vec<String>,
    env: Vec<(&'static str, String)>,
}

/// A store that is where its paths say, with builds in the open; and, where the machine has namespaces, one below a
/// folder of its own, with builds in the sandbox.
fn worlds() -> Vec<World> {
    let plain = World::new(false);
    let tried = plain.run("nix-build", &["trivial.nix", "--no-out-link"]);
    assert_eq!(tried.status, 0, "{tried:?}");
    let sandboxed = World::new(true);
    let tried = sandboxed.run("nix-build", &["trivial.nix", "--no-out-link"]);
    if tried.status == 0 {
        return vec![plain, sandboxed];
    }
    // Then it is told what helps.
    assert!(
        tried.err.contains("namespace") && tried.err.contains("NIX_STORE_DIR"),
        "{tried:?}"
    );
    eprintln!(
        "skipped: nothing can be built in a sandbox here: {}",
        tried.err
    );
    vec![plain]
}

impl World {
    fn new(sandbox: bool) -> World {
        let dir = Folder::new();
        dir.write(
            "sh.nix",
            r#"{ name, script, ... }@args:
               derivation ({
                 system = builtins.currentSystem;
                 builder = "/bin/sh";
                 args = [ "-c" script ];
                 PATH = "/bin:/usr/bin";
               } // removeAttrs args [ "script" ])"#,
        );
        dir.write(
            "trivial.nix",
            r#"import ./sh.nix { name = "trivial"; script = "echo > $out"; }"#,
        );
        let below = |name: &str| dir.path().join(name).display().to_string();
        let mut flags: Vec<String> = ["--option", "build-users-group", ""]
            .map(String::from)
            .into();
        let mut env = vec![("PATH", "/bin:/usr/bin".to_string())];
        let (real, store) = if sandbox {
            let real = below("root");
            flags.extend(["--store", &real, "--option", "sandbox-paths", SHOWN].map(String::from));
            (real, "/nix/store".to_string())
        } else {
            flags.extend(["--option", "sandbox", "false"].map(String::from));
            env.push(("NIX_STORE_DIR", below("store")));
            env.push(("NIX_STATE_DIR", below("state")));
            env.push(("NIX_LOG_DIR", below("log")));
            (String::new(), below("store"))
        };
        World {
            dir,
            real,
            store,
            flags,
            env,
        }
    }

    fn run(&self, name: &str, args: &[&str]) -> Outcome {
        let args: Vec<String> = args
            .iter()
            .map(|a| a.replace("/nix/store", &self.store))
            .collect();
        let mut all: Vec<&str> = args.iter().map(String::as_str).collect();
        all.extend(self.flags.iter().map(String::as_str));
        let env: Vec<(&str, &str)> = self.env.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let mut outcome = self.dir.named(name, &all, &env, "");
        // Tests speak of the usual folder.
        let shown = self
            .store
            .replace(&self.dir.path().display().to_string(), "/pwd");
        for text in [&mut outcome.out, &mut outcome.err] {
            *text = text.replace(&shown, "/nix/store");
        }
        outcome
    }

    /// Where a link in the folder leads to.
    #[track_caller]
    fn link(&self, name: &str) -> String {
        let target = std::fs::read_link(self.dir.path().join(name)).expect("a link");
        target
            .display()
            .to_string()
            .replace(&self.store, "/nix/store")
    }

    /// Where a path of the store is really.
    fn place(&self, path: &str) -> String {
        let path = path.trim().replace("/nix/store", &self.store);
        format!("{}{path}", self.real)
    }

    /// Output of a command that succeeded.
    #[track_caller]
    fn ok(&self, name: &str, args: &[&str]) -> String {
        let outcome = self.run(name, args);
        assert_eq!(outcome.status, 0, "{outcome:?}");
        outcome.out
    }

    /// The contents of a file in the store.
    #[track_caller]
    fn read(&self, path: &str) -> String {
        let path = self.place(path);
        match std::fs::read_to_string(&path) {
            Ok(text) => text.replace(&self.store, "/nix/store"),
            Err(e) => panic!("{path}: {e}"),
        }
    }

    fn exists(&self, path: &str) -> bool {
        std::fs::symlink_metadata(self.place(path)).is_ok()
    }
}

#[test]
fn a_chain_with_several_outputs() {
    for w in worlds() {
        w.dir.write(
        "default.nix",
        r#"rec {
             lib = import ./sh.nix {
               name = "lib";
               outputs = [ "out" "dev" ];
               script = "echo library > $out; mkdir $dev; echo header > $dev/h; ln -s $out $dev/lib";
             };
             app = import ./sh.nix {
               name = "app";
               inherit lib; dev = lib.dev;
               script = "read a < $lib; read b < $dev/h; echo \"$a and $b\" > $out; echo $lib >> $out";
             };
           }"#,
    );
        let out = w.ok("nix-build", &["-A", "app"]);
        assert!(w.read(&out).starts_with("library and header\n/nix/store/"));
        let link = std::fs::read_link(w.dir.path().join("result")).expect("the link");
        assert_eq!(
            link.display().to_string(),
            out.trim().replace("/nix/store", &w.store)
        );
        // The second time there is nothing to do.
        let again = w.run("nix-build", &["-A", "app"]);
        assert_eq!(
            (again.status, again.err.as_str(), &again.out),
            (0, "", &out)
        );
        // What refers to what, as the store knows it.
        let closure = w.ok("nix-store", &["-qR", out.trim()]);
        assert_eq!(closure.lines().count(), 2, "{closure}");
        let deriver = w.ok("nix-store", &["-q", "--deriver", out.trim()]);
        assert!(deriver.ends_with("-app.drv\n"), "{deriver}");
        let outputs = w.ok(
            "nivis",
            &[
                "build",
                "-f",
                ".",
                "lib^*",
                "--no-link",
                "--print-out-paths",
            ],
        );
        assert_eq!(outputs.lines().count(), 2);
        // The newer command says it as JSON, too, and its links are named after outputs.
        let json = w.ok(
            "nivis",
            &["build", "-f", ".", "lib^out,dev", "--json", "-o", "lib"],
        );
        assert!(
            json.contains("\"outputs\":{\"dev\":\"/nix/store/"),
            "{json}"
        );
        assert!(w.dir.path().join("lib-dev").is_symlink());
        // Built again, the result is the same.
        w.ok("nix-build", &["-A", "app", "--check", "--no-out-link"]);
        w.ok("nix-store", &["--verify", "--check-contents"]);
    }
}

#[test]
fn failures_are_told() {
    for w in worlds() {
        w.dir.write(
        "fail.nix",
        r#"import ./sh.nix { name = "bad"; script = "echo first; echo last words >&2; exit 3"; }"#,
    );
        let failed = w.run("nivis", &["build", "-f", "fail.nix", "--no-link"]);
        assert_eq!(failed.status, 1, "{failed:?}");
        let classic = w.run("nix-build", &["fail.nix", "--no-out-link"]);
        assert_eq!(classic.status, 100, "{classic:?}");
        assert!(failed.err.contains("last words"), "{failed:?}");
        assert!(failed.err.contains("exit code 3"), "{failed:?}");
        let drv = w.ok("nix-instantiate", &["fail.nix", "--no-gc-warning"]);
        assert_eq!(w.ok("nivis", &["log", drv.trim()]), "first\nlast words\n");
        assert_eq!(
            w.ok("nix-store", &["-l", drv.trim()]),
            "first\nlast words\n"
        );
    }
}

#[test]
fn a_missing_shell_is_explained() {
    // Without a sandbox there is that of the machine.
    for w in worlds().iter().skip(1) {
        let mut bare = World::new(true);
        bare.flags.retain(|flag| flag != SHOWN);
        bare.flags.push(String::new());
        let failed = bare.run("nivis", &["build", "-f", "trivial.nix"]);
        assert_eq!(failed.status, 1, "{failed:?}");
        for text in ["the setting 'sandbox-paths' can show it one", "nivis log "] {
            assert!(failed.err.contains(text), "{failed:?}");
        }
        assert!(
            w.ok("nivis", &["config", "show", "sandbox-paths"])
                .contains("/usr?")
        );
    }
}

#[test]
fn fixed_outputs_right_and_wrong() {
    for w in worlds() {
        let text = r#"{ hash }: import ./sh.nix {
        name = "fixed"; script = "echo hello > $out";
        outputHashMode = "flat"; outputHashAlgo = "sha256"; outputHash = hash;
      }"#;
        w.dir.write("fixed.nix", text);
        w.dir.write("hello", "hello\n");
        let right = w.ok(
            "nix-hash",
            &["--flat", "--type", "sha256", "--sri", "hello"],
        );
        let right = right.trim();
        let out = w.ok(
            "nix-build",
            &["fixed.nix", "--argstr", "hash", right, "--no-out-link"],
        );
        assert_eq!(w.read(&out), "hello\n");
        let wrong = "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        let failed = w.run(
            "nix-build",
            &["fixed.nix", "--argstr", "hash", wrong, "--no-out-link"],
        );
        assert_eq!(failed.status, 102, "{failed:?}");
        assert!(
            failed
                .err
                .contains("hash mismatch in fixed-output derivation")
        );
        assert!(
            failed.err.contains(right) && failed.err.contains(wrong),
            "{failed:?}"
        );
    }
}

/// The store remembers no path of an output that is made anew each time.
#[test]
fn impure_outputs_are_told() {
    for world in worlds() {
        world.dir.write(
            "impure.nix",
            r#"import ./sh.nix {
                 name = "impure"; script = "read x < /proc/sys/kernel/random/uuid; echo $x > $out; mkdir $dev"; outputs = [ "out" "dev" ]; __impure = true;
               }"#,
        );
        let features = [
            "--extra-experimental-features",
            "ca-derivations impure-derivations",
        ];
        let build = |args: &[&str]| {
            world.ok(
                "nix-build",
                &[&["impure.nix"], &features[..], args].concat(),
            )
        };
        let built = build(&[]);
        assert_eq!(world.link("result"), built.trim());
        let dev = build(&["-A", "dev", "-o", "other"]);
        assert_eq!(world.link("other-dev"), dev.trim());
        assert!(dev.trim().ends_with("-impure-dev"), "{dev}");
        let drv = world.ok(
            "nix-instantiate",
            &[&["impure.nix"], &features[..]].concat(),
        );
        let args = ["--realise", drv.trim(), "--add-root", "kept"];
        let links = world.ok("nix-store", &[&args, &features[..]].concat());
        assert_eq!(links, "/pwd/kept\n/pwd/kept-dev\n");
        assert!(world.link("kept").ends_with("-impure"));
        // Each time it is another one.
        assert_ne!(world.link("kept"), built.trim());
    }
}

#[test]
fn import_from_derivation() {
    for w in worlds() {
        w.dir.write(
        "ifd.nix",
        r#"let made = import ./sh.nix { name = "made.nix"; script = "echo '{ x = 20; y = 22; }' > $out"; };
           in import ./sh.nix {
             name = "sum";
             sum = (import made).x + (import "${made}").y;
             script = "echo $sum > $out";
           }"#,
    );
        let out = w.ok("nix-build", &["ifd.nix", "--no-out-link"]);
        assert_eq!(w.read(&out), "42\n");
        assert_eq!(w.ok("nivis", &["eval", "-f", "ifd.nix", "sum"]), "42\n");
        // Of a derivation that is not in the store yet.
        let other = r#"{
            before = builtins.trace "once" 1;
            other = import (import ./sh.nix { name = "other"; script = "echo 2 > $out"; });
        }"#;
        w.dir.write("other.nix", other);
        for (command, flag) in [
            (
                &["nix-instantiate", "--eval", "other.nix", "-A", "other"][..],
                "--strict",
            ),
            (
                &["nivis", "eval", "-f", "other.nix", "other"],
                "--read-only",
            ),
        ] {
            let unwritten = w.run(command[0], &[&command[1..], &[flag]].concat());
            assert!(unwritten.error().contains("is not valid"), "{unwritten:?}");
            assert!(unwritten.err.contains("--read-write-mode"), "{unwritten:?}");
        }
        let forbidden = ["--option", "allow-import-from-derivation", "false"];
        let args = ["eval", "-f", "other.nix", "before", "other"];
        let refused = w.run("nivis", &[&args[..], &forbidden].concat());
        assert_eq!(refused.status, 1);
        assert!(refused.err.contains("is disabled"), "{refused:?}");
        assert_eq!(
            w.ok("nix-store", &["--gc", "--print-dead"])
                .matches("other")
                .count(),
            0
        );
        // It is written and built because evaluation needs it; what was said and printed is so once.
        let built = w.run("nivis", &args);
        assert_eq!(
            (built.status, built.out.as_str()),
            (0, "1\n2\n"),
            "{built:?}"
        );
        assert_eq!(built.err.matches("trace: once").count(), 1, "{built:?}");
        // Files are written once all is evaluated.
        w.dir.write(
            "files.nix",
            r#"{ a = "x"; b = builtins.readFile (import ./sh.nix { name = "b"; script = "echo 3 > $out"; }); }"#,
        );
        w.ok("nivis", &["eval", "-f", "files.nix", "--write-to", "files"]);
        let written = std::fs::read_to_string(w.dir.path().join("files/b"));
        assert_eq!(written.ok().as_deref(), Some("3\n"));
        let failed = w.run(
            "nix-instantiate",
            &["ifd.nix", "--no-allow-import-from-derivation"],
        );
        assert_eq!(failed.status, 1);
        assert!(
            failed.err.contains(
                "during evaluation because the option 'allow-import-from-derivation' is disabled"
            ),
            "{failed:?}"
        );
    }
}

#[test]
fn structured_attributes() {
    for w in worlds() {
        w.dir.write(
            "structured.nix",
            r#"import ./sh.nix {
             name = "structured"; __structuredAttrs = true;
             list = [ "a b" "c" ];
             script = ''
               read -r line < "$NIX_ATTRS_JSON_FILE" || true
               path=''${line#*'"out":"'}
               echo "$line" > "''${path%%'"'*}"
             '';
           }"#,
        );
        let out = w.ok("nix-build", &["structured.nix", "--no-out-link"]);
        assert!(w.read(&out).contains("\"list\":[\"a b\",\"c\"]"));
    }
}

#[test]
fn garbage_and_roots() {
    for w in worlds() {
        w.dir.write(
            "two.nix",
            r#"rec {
             a = import ./sh.nix { name = "a"; script = "echo a > $out"; };
             b = import ./sh.nix { name = "b"; inherit a; script = "echo $a > $out"; };
             c = import ./sh.nix { name = "c"; script = "echo c > $out"; };
           }"#,
        );
        let paths = w.ok("nix-build", &["two.nix", "-A", "b", "-o", "kept"]);
        let (b, a) = (paths.trim(), w.read(&paths));
        let a = a.trim();
        let c = w.ok("nix-build", &["two.nix", "-A", "c", "--no-out-link"]);
        let dead = w.ok("nivis", &["gc", "--print-dead"]);
        assert!(dead.contains(c.trim()) && !dead.contains(b), "{dead}");
        let roots = w.ok("nix-store", &["--gc", "--print-roots"]);
        assert!(roots.contains(&format!("/pwd/kept -> {b}")), "{roots}");
        let refused = w.run("nix-store", &["--delete", a]);
        assert_eq!(refused.status, 1, "{refused:?}");
        let said = w.ok("nivis", &["gc"]);
        assert!(said.contains("store paths deleted, "), "{said}");
        assert!(w.exists(a) && w.exists(b) && !w.exists(&c));
        // Without its root, everything goes.
        std::fs::remove_file(w.dir.path().join("kept")).expect("the link");
        w.ok("nix-collect-garbage", &["-d"]);
        assert!(!w.exists(a) && !w.exists(b));
        assert_eq!(w.ok("nivis", &["path-info", "--all"]), "");
        w.ok("nix-store", &["--verify", "--check-contents"]);
    }
}

#[test]
fn plans_and_progress_for_programs() {
    for w in worlds() {
        w.dir.write(
            "p.nix",
            r#"import ./sh.nix { name = "p"; script = "echo some output; echo > $out"; }"#,
        );
        let plan = w.run("nix-build", &["p.nix", "--dry-run"]);
        assert!(
            plan.err
                .starts_with("this derivation will be built:\n  /nix/store/"),
            "{plan:?}"
        );
        let built = w.run(
            "nix-build",
            &["p.nix", "--no-out-link", "--log-format", "internal-json"],
        );
        let lines: Vec<&str> = built.err.lines().collect();
        assert!(
            lines.iter().all(|l| l.starts_with("@nix {\"action\":\"")),
            "{built:?}"
        );
        let has = |part: &str| assert!(lines.iter().any(|l| l.contains(part)), "{part}: {built:?}");
        has("\"type\":105");
        has("\"action\":\"result\",\"fields\":[\"some output\"]");
        has("\"action\":\"stop\"");
        // Errors have their bare text and their place.
        w.dir.write("wrong.nix", "\n  bogus\n");
        let wrong = w.run("nix-build", &["wrong.nix", "--log-format", "internal-json"]);
        assert!(wrong.err.starts_with("@nix {\"action\":\"msg\",\"column\":3,\"file\":\"/pwd/wrong.nix:2:3\",\"level\":0,\"line\":2,"));
        assert!(
            wrong
                .err
                .ends_with("\"raw_msg\":\"undefined variable 'bogus'\"}\n")
        );
        let checked = w.run(
            "nix",
            &[
                "store",
                "verify",
                "--all",
                "-n",
                "1",
                "--log-format",
                "internal-json",
            ],
        );
        assert_eq!(checked.status, 2, "{checked:?}");
        assert!(checked.err.contains("-p\"],\"id\":"), "{checked:?}");
        assert!(checked.err.contains("\"type\":102}"), "{checked:?}");
    }
}

/// What one argument stands for comes in the order of the derivations' paths.
#[test]
fn derivations_of_a_set_are_in_the_order_of_their_paths() {
    let w = World::new(false);
    let one = |i: usize| {
        format!(
            "x{} = import ./sh.nix {{ name = \"n{i}\"; script = \"echo > $out\"; }};",
            9 - i
        )
    };
    let all: String = (0..9).map(one).collect();
    w.dir.write("set.nix", &format!("{{ {all} }}"));
    let json = w.ok("nix", &["build", "-f", "set.nix", "--dry-run", "--json"]);
    let paths: Vec<&str> = json.split("\"drvPath\":\"").skip(1).collect();
    assert_eq!(paths.len(), 9);
    assert!(paths.is_sorted(), "{json}");
    // Times are not told: they would make equal builds differ.
    let built = w.ok(
        "nix",
        &["build", "-f", "set.nix", "x1", "--json", "--no-link"],
    );
    assert!(
        built.starts_with("[{\"drvPath\":") && built.ends_with("-n8\"}}]\n"),
        "{built}"
    );
}

/// Logs that are asked for are shown however little else is; a file's value needs no name.
#[test]
fn logs_are_shown_on_request() {
    for w in worlds() {
        w.dir.write(
            "logged.nix",
            r#"import ./sh.nix { name = "logged"; script = "echo some output; echo > $out"; }"#,
        );
        let built = w.run(
            "nix",
            &["build", "-f", "logged.nix", "--no-link", "-L", "--quiet"],
        );
        assert_eq!(
            (built.status, built.err.as_str()),
            (0, "logged> some output\n")
        );
        assert_eq!(w.ok("nix", &["log", "-f", "logged.nix"]), "some output\n");
        assert!(
            w.ok("nix", &["store", "dump-path", "-f", "logged.nix"])
                .contains("nix-archive-1")
        );
        // Messages of builders that do not fit are told, and are lines like others.
        w.dir.write(
            "wrong.nix",
            r#"import ./sh.nix {
                 name = "wrong";
                 script = "echo '@nix {\"action\":\"start\",\"id\":\"x\",\"level\":3,\"type\":101,\"text\":\"begun\"}'; echo > $out";
               }"#,
        );
        let built = w.run("nix-build", &["wrong.nix", "--no-out-link"]);
        assert!(
            built
                .err
                .contains("warning: Unable to handle a JSON message from the derivation builder"),
            "{built:?}"
        );
        assert!(!built.err.contains("begun..."), "{built:?}");
    }
}

#[test]
fn stores_are_filled_read_and_emptied_without_builds() {
    let dir = Folder::new();
    let store = dir.path().join("root").display().to_string();
    let run = |name: &str, args: &[&str]| {
        let outcome = dir.named(name, &[args, &["--store", &store]].concat(), &[], "");
        assert_eq!(outcome.status, 0, "{outcome:?}");
        outcome.out
    };
    dir.write("tree/file", "text")
        .write("tree/sub/other", "more");
    let path = run("nivis", &["store", "add", "tree"]);
    let path = path.trim();
    assert_eq!(
        run("nivis", &["store", "cat", &format!("{path}/sub/other")]),
        "more"
    );
    assert_eq!(run("nix-store", &["--add", "tree"]).trim(), path);
    assert_eq!(
        run("nivis", &["store", "ls", "-R", path]),
        "./file\n./sub\n./sub/other\n"
    );
    let info = run(
        "nivis",
        &["path-info", "--json", "--json-format", "2", path],
    );
    assert!(
        info.contains("\"narSize\":") && info.contains("\"version\":2"),
        "{info}"
    );
    let hash = run("nix-store", &["-q", "--hash", path]);
    let computed = run("nivis", &["hash", "path", "tree", "--format", "nix32"]);
    assert_eq!(hash.trim(), format!("sha256:{}", computed.trim()));
    assert_eq!(run("nix-store", &["-q", "--requisites", path]).trim(), path);
    run("nix-store", &["--verify", "--check-contents"]);
    assert!(run("nix-store", &["--gc", "--print-dead"]).contains(path));
    assert!(run("nix-collect-garbage", &[]).starts_with("1 store paths deleted, "));
    let json = run("nivis", &["store", "info", "--json"]);
    assert!(json.contains("\"storeDir\":\"/nix/store\""), "{json}");
    let missing = dir.named(
        "nix-store",
        &["-q", "--hash", path, "--store", &store],
        &[],
        "",
    );
    assert_eq!(
        missing.error(),
        format!("error: path '{path}' is not valid")
    );
}

#[test]
fn closures_are_compared() {
    for w in worlds() {
        w.dir.write(
            "both.nix",
            r#"let sh = import ./sh.nix;
                   lib = version: size: sh {
                     name = "lib-${version}";
                     script = "head -c ${size} /dev/zero > $out; echo ${version} >> $out";
                   };
               in {
                 old = sh { name = "top-1"; deps = [ (lib "1.0" "20000") (sh { name = "foo-bin"; script = "echo > $out"; }) ]; script = "echo $deps > $out"; };
                 new = sh { name = "top-1"; deps = [ (lib "2.0" "200") (lib "2.1" "200000") ]; script = "echo $deps > $out"; };
               }"#,
        );
        w.ok("nix-build", &["both.nix", "--no-out-link"]);
        let args = ["store", "diff-closures", "-f", "both.nix", "old", "new"];
        assert_eq!(
            w.ok("nivis", &args),
            "foo: ε → ∅\nlib: 1.0 → 2.0, 2.1, 176.1 KiB\n"
        );
        let same = ["store", "diff-closures", "-f", "both.nix", "old", "old"];
        assert_eq!(w.ok("nivis", &same), "");
    }
}

#[test]
fn old_generations_of_profiles() {
    for w in worlds() {
        w.dir.write(
            "two.nix",
            r#"{ a = import ./sh.nix { name = "a"; script = "echo a > $out"; };
                 b = import ./sh.nix { name = "b"; script = "echo b > $out"; }; }"#,
        );
        let a = w.ok("nix-build", &["two.nix", "-A", "a", "--no-out-link"]);
        let b = w.ok("nix-build", &["two.nix", "-A", "b", "--no-out-link"]);
        let profiles = match w.real.is_empty() {
            true => w.dir.path().join("state/profiles"),
            false => w.dir.path().join("root/nix/var/nix/profiles"),
        };
        std::fs::create_dir_all(&profiles).expect("the profiles");
        let link = |target: &str, name: &str| {
            let target = target.trim().replace("/nix/store", &w.store);
            std::os::unix::fs::symlink(target, profiles.join(name)).expect("a link");
        };
        link(&a, "p-1-link");
        link(&b, "p-2-link");
        link("p-2-link", "p");
        w.ok("nix-collect-garbage", &[]);
        assert!(w.exists(&a) && w.exists(&b));
        // Nothing is that old.
        let soon = w.run("nix-collect-garbage", &["--delete-older-than", "soon"]);
        assert!(soon.error().contains("invalid number of days"), "{soon:?}");
        w.ok("nix-collect-garbage", &["--delete-older-than", "1d"]);
        assert!(w.exists(&a) && w.exists(&b));
        w.ok("nivis", &["gc", "--delete-old", "--dry-run"]);
        assert!(profiles.join("p-1-link").is_symlink());
        w.ok("nix-collect-garbage", &["-d"]);
        assert!(!w.exists(&a) && w.exists(&b));
        assert!(!profiles.join("p-1-link").is_symlink());
    }
}

#[test]
fn damage_is_found_and_repaired() {
    for w in worlds() {
        w.dir.write(
            "d.nix",
            r#"import ./sh.nix { name = "d"; script = "mkdir $out; echo text > $out/file; echo text > $out/same"; }"#,
        );
        let out = w.ok("nix-build", &["d.nix"]);
        let out = out.trim();
        w.ok("nix-store", &["--verify-path", out]);
        w.ok("nivis", &["store", "verify", out]);
        let file = w.place(&format!("{out}/file"));
        let change = |text: &str| {
            let folder = w.place(out);
            for (path, mode) in [(&folder, 0o755), (&file, 0o644)] {
                use std::os::unix::fs::PermissionsExt;
                let mode = std::fs::Permissions::from_mode(mode);
                std::fs::set_permissions(path, mode).expect("permissions");
            }
            std::fs::write(&file, text).expect("a changed file");
        };
        change("damage");
        let found = w.run("nix-store", &["--verify-path", out]);
        assert_eq!(found.status, 1, "{found:?}");
        assert!(
            found.err.contains("was modified! expected hash 'sha256:"),
            "{found:?}"
        );
        assert_eq!(w.run("nivis", &["store", "verify", out]).status, 1);
        assert_eq!(
            w.run("nix-store", &["--verify", "--check-contents"]).status,
            1
        );
        w.ok("nix-store", &["--verify", "--check-contents", "--repair"]);
        assert_eq!(w.read(&format!("{out}/file")), "text\n");
        change("damage");
        w.ok("nivis", &["store", "repair", out]);
        w.ok("nix-store", &["--verify", "--check-contents"]);
        // Files with the same contents become one.
        let linked = w.run("nivis", &["store", "optimise"]);
        assert!(linked.err.contains("freed by hard-linking"), "{linked:?}");
        w.ok("nix-store", &["--verify", "--check-contents"]);
    }
}

#[test]
fn stores_exchange_paths() {
    let Some(w) = worlds().pop().filter(|w| !w.real.is_empty()) else {
        return;
    };
    w.dir.write(
        "e.nix",
        r#"import ./sh.nix {
             name = "e"; dep = import ./trivial.nix;
             script = "mkdir $out; ln -s $dep $out/dep";
           }"#,
    );
    let out = w.ok("nix-build", &["e.nix"]);
    let other = w.dir.path().join("other").display().to_string();
    // The flags of the world come last and win, so other stores are named by hand.
    let there = |args: &[&str]| {
        let outcome = w.dir.named("nivis", args, &[("PATH", "/bin:/usr/bin")], "");
        assert_eq!(outcome.status, 0, "{outcome:?}");
        outcome.out
    };
    // Nobody has signed it, and its path says nothing of its contents.
    let copy = ["copy", "--from", &w.real, "--to", &other, out.trim()];
    let refused = w
        .dir
        .named("nivis", &copy, &[("PATH", "/bin:/usr/bin")], "");
    assert_eq!(refused.status, 1, "{refused:?}");
    assert!(
        refused
            .err
            .contains("because it lacks a signature by a trusted key"),
        "{refused:?}"
    );
    there(&[&copy[..], &["--no-check-sigs"]].concat());
    let closure = w.ok("nix-store", &["-qR", out.trim()]);
    assert_eq!(
        there(&["store", "requisites", out.trim(), "--store", &other]),
        closure
    );
    there(&["store", "verify", "--all", "--no-trust", "--store", &other]);
    // What is missing is built first.
    w.dir.write(
        "g.nix",
        r#"import ./sh.nix { name = "g"; script = "echo g > $out"; }"#,
    );
    w.ok(
        "nivis",
        &[
            "copy",
            "-f",
            "g.nix",
            "--to",
            &other,
            "--option",
            "require-sigs",
            "false",
        ],
    );
    let g = w.ok("nivis", &["path-info", "-f", "g.nix"]);
    assert_eq!(there(&["path-info", g.trim(), "--store", &other]), g);
    // Evaluated in one store, built in another.
    let evaluated = w.dir.path().join("evaluated").display().to_string();
    let fresh = World::new(true);
    fresh.dir.write(
        "e.nix",
        r#"import ./sh.nix { name = "f"; script = "echo f > $out"; }"#,
    );
    let built = fresh.ok("nix-build", &["e.nix", "--eval-store", &evaluated]);
    assert_eq!(fresh.read(&built), "f\n");
    assert!(!fresh.ok("nivis", &["path-info", "--all"]).contains(".drv"));
    let there_too = there(&["path-info", "--all", "--store", &evaluated]);
    assert!(there_too.contains("-f.drv"), "{there_too}");
    let paths: Vec<&str> = closure.lines().collect();
    assert_eq!(paths.len(), 2);
    let third = w.dir.path().join("third").display().to_string();
    let shell = format!(
        "'{bin}' store export {} --store '{}' | '{bin}' store import --store '{third}'",
        paths.join(" "),
        w.real,
        bin = env!("CARGO_BIN_EXE_nivis"),
    );
    let imported = std::process::Command::new("/bin/sh")
        .args(["-c", &shell])
        .env_clear()
        .env("HOME", w.dir.path())
        .env("PATH", "/bin:/usr/bin")
        .output()
        .expect("a shell");
    assert!(imported.status.success(), "{imported:?}");
    assert_eq!(String::from_utf8_lossy(&imported.stdout), closure);
    there(&["store", "verify", "--all", "--no-trust", "--store", &third]);
}

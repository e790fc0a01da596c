//! The program under the name `nix-instantiate`. What is expected is what Nix 2.34.8 does.

mod common;

use common::Folder;

const FUNCTION: &str = r#"{ x ? 1, y }: {
  a.b = x;
  c = y;
  d = [ 10 20 { z = 3; } ];
  f = { q }: q;
  "a.b" = 5;
}
"#;

const DRV: &str = r#"derivation { name = "n"; system = "s"; builder = "b"; }"#;
const DRV_PATH: &str = "/nix/store/wr1i7p014rsirg48bgmkclzgi393aj0p-n.drv";

#[test]
fn xml_is_printed_whole_or_not_at_all() {
    let dir = Folder::new();
    // Neither output nor another error.
    let run = dir.nix_instantiate(&["--eval", "--strict", "--xml", "-E", "[ 1 (throw \"x\") ]"]);
    assert_eq!(run.error(), "error: x");
}

#[test]
fn values_are_printed() {
    let dir = Folder::new();
    let eval = |args: &[&str]| {
        dir.nix_instantiate(&[&["--eval"], args].concat())
            .quiet()
            .to_string()
    };
    assert_eq!(eval(&["-E", "[ 1 (1 + 1) ]"]), "[ 1 <CODE> ]\n");
    assert_eq!(
        eval(&["--strict", "-E", "[ 1 (1 + 1) (x: x) ]"]),
        "[ 1 2 <LAMBDA> ]\n"
    );
    assert_eq!(eval(&["-E", "1", "2", "[ 3 ]"]), "1\n2\n[ 3 ]\n");
    assert_eq!(
        eval(&[
            "--json",
            "--strict",
            "-E",
            "{ b = [ 1.5 null true ]; a = \"\\n\"; }"
        ]),
        "{\"a\":\"\\n\",\"b\":[1.5,null,true]}\n"
    );
    assert_eq!(eval(&["--raw", "-E", "\"no newline\""]), "no newline");
    assert_eq!(
        eval(&[
            "--xml",
            "--no-location",
            "--strict",
            "-E",
            "{ a = [ 1 ]; f = { x, y ? 1, ... }@z: x; }"
        ]),
        r#"<?xml version='1.0' encoding='utf-8'?>
<expr>
  <attrs>
    <attr name="a">
      <list>
        <int value="1" />
      </list>
    </attr>
    <attr name="f">
      <function>
        <attrspat ellipsis="1" name="z">
          <attr name="x" />
          <attr name="y" />
        </attrspat>
      </function>
    </attr>
  </attrs>
</expr>
"#
    );
}

/// However deep the value is: printing is no way around the limit.
#[test]
fn printed_values_are_no_deeper_than_calls() {
    let dir = Folder::new();
    let nested =
        "builtins.foldl' (inner: _: { inherit inner; }) null (builtins.genList (x: x) 100)";
    let eval =
        |depth: &str| dir.nix_instantiate(&["--eval", "--max-call-depth", depth, "-E", nested]);
    assert!(eval("100").quiet().starts_with("{ inner = { inner"));
    assert_eq!(
        eval("99").error(),
        "error: stack overflow; max-call-depth exceeded"
    );
}

#[test]
fn functions_are_called_and_paths_followed() {
    let dir = Folder::new();
    dir.write("f.nix", FUNCTION);
    let eval = |args: &[&str]| dir.nix_instantiate(&[&["--eval", "f.nix"], args].concat());
    assert_eq!(
        eval(&["--argstr", "y", "hello", "-A", "c"]).quiet(),
        "\"hello\"\n"
    );
    assert_eq!(
        eval(&[
            "--argstr", "y", "", "--arg", "x", "[ 1 ]", "-A", "a.b", "--strict"
        ])
        .quiet(),
        "[ 1 ]\n"
    );
    assert_eq!(
        eval(&["--argstr", "y", "", "-A", "\"a.b\"", "-A", "d.1"]).quiet(),
        "5\n20\n"
    );
    assert_eq!(
        eval(&["--argstr", "y", "", "--arg", "q", "7", "-A", "f"]).quiet(),
        "7\n"
    );
    let error = |args: &[&str]| {
        let outcome = eval(&[&["--argstr", "y", ""], args].concat());
        outcome.error().to_string()
    };
    assert_eq!(
        error(&["-A", "d.7"]),
        "error: list index 7 in selection path 'd.7' is out of range"
    );
    assert_eq!(
        error(&["-A", "d.x"]),
        "error: the expression selected by the selection path 'd.x' should be a set but is a list"
    );
    assert_eq!(
        error(&["-A", "a.0"]),
        "error: the expression selected by the selection path 'a.0' should be a list but is a set"
    );
    assert_eq!(
        error(&["-A", "zz"]),
        "error: attribute 'zz' in selection path 'zz' not found"
    );
    assert_eq!(
        error(&["-A", "a..b"]),
        "error: empty attribute name in selection path 'a..b'"
    );
    assert_eq!(
        error(&["-A", "a.\"b"]),
        "error: missing closing quote in selection path 'a.\"b'"
    );
    assert!(
        dir.nix_instantiate(&["--eval", "f.nix", "-A", "c"])
            .error()
            .contains("argument without a value ('y')")
    );
}

#[test]
fn input_comes_from_files_folders_and_standard_input() {
    let dir = Folder::new();
    dir.write("sub/default.nix", "1 + 1")
        .write("sub/other.nix", "import ./.");
    assert_eq!(dir.nix_instantiate(&["--eval", "sub"]).quiet(), "2\n");
    assert_eq!(
        dir.nix_instantiate(&["--eval", "sub/other.nix"]).quiet(),
        "2\n"
    );
    assert_eq!(
        dir.nix_instantiate(&["--eval", "<lib/sub>", "-I", "lib=."])
            .quiet(),
        "2\n"
    );
    assert_eq!(
        dir.nix_instantiate_with(&["--eval", "-"], &[], "3 * 4")
            .quiet(),
        "12\n"
    );
    assert_eq!(
        dir.nix_instantiate_with(&["--eval", "<sub>"], &[("NIX_PATH", "x=y:.")], "")
            .quiet(),
        "2\n"
    );
    assert_eq!(
        dir.nix_instantiate(&["--eval"]).error(),
        "error: path '/pwd/default.nix' does not exist"
    );
    assert_eq!(
        dir.nix_instantiate(&["--find-file", "sub", "-I", "."])
            .quiet(),
        "/pwd/sub\n"
    );
    assert_eq!(
        dir.nix_instantiate(&["--find-file", "nope", "-I", "."])
            .error(),
        "error: file 'nope' was not found in the Nix search path (add it using $NIX_PATH or -I)"
    );
}

#[test]
fn syntax_trees_are_printed() {
    let dir = Folder::new();
    assert_eq!(
        dir.nix_instantiate(&["--parse", "-E", "x: x + 1"]).quiet(),
        "(x: (x + 1))\n"
    );
    assert_eq!(
        dir.nix_instantiate_with(&["--parse", "-"], &[], "[ 1 ]")
            .quiet(),
        "[ (1) ]\n"
    );
    assert_eq!(
        dir.nix_instantiate(&["--parse", "-E", "x: y"]).error(),
        "error: undefined variable 'y'"
    );
    assert!(
        dir.nix_instantiate(&["--parse", "-E", "x:"])
            .error()
            .starts_with("error: ")
    );
}

#[test]
fn usage_errors() {
    let dir = Folder::new();
    let err = |args: &[&str]| {
        let outcome = dir.nix_instantiate(args);
        assert_eq!((outcome.status, outcome.out.as_str()), (1, ""));
        outcome.err
    };
    let hint = "\nTry 'nix-instantiate --help' for more information.\n";
    assert_eq!(
        err(&["--bogus"]),
        format!("error: unrecognised flag '--bogus'{hint}")
    );
    assert_eq!(err(&["-Z"]), format!("error: unrecognised flag '-Z'{hint}"));
    assert_eq!(
        err(&["--attr"]),
        format!("error: '--attr' requires an argument{hint}")
    );
    assert_eq!(
        err(&["--arg", "x"]),
        format!("error: flag '--arg' requires 2 argument(s), but only 1 were given{hint}")
    );
    assert_eq!(
        err(&["--max-call-depth", "x", "-E", "1"]),
        format!("error: setting 'max-call-depth' has invalid value 'x'{hint}")
    );
    assert_eq!(
        dir.nix_instantiate(&["--version"]).quiet(),
        "nix-instantiate (Nix) 2.34.8\n"
    );
    // Joined short flags, a wrong setting that is only warned about, flags that mean nothing here.
    let outcome = dir.nix_instantiate(&[
        "--eval", "-vj4", "--option", "nonsense", "1", "--cores", "2", "-E", "1",
    ]);
    assert_eq!(outcome.err, "warning: unknown setting 'nonsense'\n");
    assert_eq!((outcome.status, outcome.out.as_str()), (0, "1\n"));
}

#[test]
fn settings_come_from_files_variables_and_flags() {
    let dir = Folder::new();
    dir.write(
        "conf/nix.conf",
        "# comment\ninclude more.conf\n!include missing.conf\nsystem = one\n",
    )
    .write("conf/more.conf", "max-call-depth = 20\n");
    let conf = dir.path().join("conf").display().to_string();
    let files = [("NIX_CONF_DIR", conf.as_str())];
    let system = ["--eval", "-E", "builtins.currentSystem"];
    assert_eq!(
        dir.nix_instantiate_with(&system, &files, "").quiet(),
        "\"one\"\n"
    );
    let both = [files[0], ("NIX_CONFIG", "system = two")];
    assert_eq!(
        dir.nix_instantiate_with(&system, &both, "").quiet(),
        "\"two\"\n"
    );
    let flag = [&system[..], &["--system", "three"]].concat();
    assert_eq!(
        dir.nix_instantiate_with(&flag, &both, "").quiet(),
        "\"three\"\n"
    );
    let deep = [
        "--eval",
        "-E",
        "let f = n: if n == 0 then 0 else 1 + f (n - 1); in f 30",
    ];
    assert_eq!(
        dir.nix_instantiate_with(&deep, &files, "").error(),
        "error: stack overflow; max-call-depth exceeded"
    );
    assert_eq!(dir.nix_instantiate(&deep).quiet(), "30\n");
    let pipe = |args: &[&str]| {
        dir.nix_instantiate(&[&["--eval", "-E", "1 |> (x: x)"], args].concat())
            .status
    };
    assert_eq!(pipe(&[]), 1);
    assert_eq!(
        pipe(&["--extra-experimental-features", "pipe-operators"]),
        0
    );
    assert_eq!(
        pipe(&["--option", "extra-experimental-features", "pipe-operators"]),
        0
    );
    let lint = |value: &str| {
        dir.nix_instantiate(&["--eval", "-E", "http://a", "--lint-url-literals", value])
    };
    assert_eq!(lint("ignore").quiet(), "\"http://a\"\n");
    assert!(lint("warn").err.starts_with("warning: "));
    assert_eq!(lint("fatal").status, 1);
}

#[test]
fn pure_and_restricted_evaluation() {
    let dir = Folder::new();
    dir.write("f.nix", "1").write("sub/default.nix", "2");
    let eval = |args: &[&str]| dir.nix_instantiate(&[&["--eval"], args].concat());
    assert_eq!(
        eval(&["--pure-eval", "-E", "builtins ? currentSystem"]).quiet(),
        "false\n"
    );
    assert_eq!(
        eval(&["--pure-eval", "-E", "import ./f.nix"]).error(),
        "error: access to absolute path '/pwd/f.nix' is forbidden in pure evaluation mode (use '--impure' to override)"
    );
    assert_eq!(
        eval(&["--restrict-eval", "-E", "import ./f.nix"]).error(),
        "error: access to absolute path '/pwd/f.nix' is forbidden in restricted mode"
    );
    assert_eq!(
        eval(&["--restrict-eval", "-I", ".", "-E", "import ./f.nix"]).quiet(),
        "1\n"
    );
    assert_eq!(
        eval(&["--restrict-eval", "-I", "s=./sub", "-E", "import <s>"]).quiet(),
        "2\n"
    );
    assert_eq!(
        eval(&["--restrict-eval", "-E", "builtins.getEnv \"HOME\""]).quiet(),
        "\"\"\n"
    );
}

#[test]
fn derivations_are_found_and_written() {
    let dir = Folder::new();
    dir.write(
        "drvs.nix",
        &format!(
            r#"{{
              a = {DRV};
              again = {DRV};
              b = {{ recurseForDerivations = true; c = derivation {{ name = "c"; system = "s"; builder = ./file; outputs = [ "out" "dev" ]; }}; }};
              not = {{ z = throw "not looked at"; }};
              "1" = throw "not a name";
            }}"#
        ),
    )
    .write("file", "contents");
    let store = dir.path().join("root").display().to_string();
    let outcome = dir.nix_instantiate(&["drvs.nix", "--store", &store]);
    assert_eq!(
        outcome.err,
        "warning: you did not specify '--add-root'; the result might be removed by the garbage collector\n"
    );
    let paths: Vec<&str> = outcome.out.lines().collect();
    assert_eq!((outcome.status, paths.len()), (0, 3), "{outcome:?}");
    assert_eq!(&paths[..2], [DRV_PATH, DRV_PATH]);
    for path in &paths {
        let text =
            std::fs::read_to_string(format!("{store}{path}")).expect("the .drv file is written");
        assert!(text.starts_with("Derive("), "{text}");
    }
    let sources = std::fs::read_dir(format!("{store}/nix/store")).expect("the store");
    let copied = sources
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().ends_with("-file"))
        .count();
    assert_eq!(copied, 1);

    let quiet = |args: &[&str]| {
        dir.nix_instantiate(&[&["drvs.nix", "--dry-run", "--no-gc-warning"], args].concat())
    };
    assert_eq!(quiet(&["-A", "a"]).quiet().trim(), DRV_PATH);
    assert_eq!(
        quiet(&["-A", "b.c.dev"]).quiet().trim(),
        format!("{}!dev", paths[2])
    );
    assert_eq!(
        dir.nix_instantiate(&["-E", "x: x"]).error(),
        "error: expression does not evaluate to a derivation (or a set or list of those)"
    );
    // A root is a link; the second one gets a number.
    let rooted = dir.nix_instantiate(&[
        "drvs.nix",
        "-A",
        "a",
        "-A",
        "b.c",
        "--store",
        &store,
        "--add-root",
        "r/root",
    ]);
    assert_eq!(rooted.quiet(), "/pwd/r/root\n/pwd/r/root-2\n");
    let target = std::fs::read_link(dir.path().join("r/root")).expect("a link");
    assert_eq!(target.display().to_string(), DRV_PATH);
    // Only evaluating writes nothing.
    let other = dir.path().join("other").display().to_string();
    assert_eq!(
        dir.nix_instantiate(&[
            "--eval",
            "-E",
            &format!("({DRV}).drvPath"),
            "--store",
            &other
        ])
        .quiet(),
        format!("\"{DRV_PATH}\"\n")
    );
    assert!(!dir.path().join("other").exists());
}

#[test]
fn messages_go_to_standard_error() {
    let dir = Folder::new();
    let outcome = dir.nix_instantiate(&[
        "--eval",
        "-E",
        "builtins.trace \"t\" (builtins.warn \"w\" 1)",
    ]);
    assert_eq!((outcome.status, outcome.out.as_str()), (0, "1\n"));
    assert_eq!(outcome.err, "trace: t\nevaluation warning: w\n");
    assert_eq!(
        dir.nix_instantiate(&["--eval", "-E", "builtins.traceVerbose \"t\" 1"])
            .quiet(),
        "1\n"
    );
    let verbose = dir.nix_instantiate(&[
        "--eval",
        "--trace-verbose",
        "-E",
        "builtins.traceVerbose \"t\" 1",
    ]);
    assert_eq!(verbose.err, "trace: t\n");
    let args = ["--eval", "-E", "builtins.warn \"w\" 1"];
    assert_eq!(
        dir.nix_instantiate_with(&args, &[("NIX_ABORT_ON_WARN", "1")], "")
            .status,
        1
    );
}

#[test]
fn statistics() {
    let dir = Folder::new();
    let args = [
        "--eval",
        "-E",
        "let f = x: { a = x; } // { b = 1; }; in (f 1).a",
    ];
    let file = dir.path().join("stats.json").display().to_string();
    let env = [
        ("NIX_SHOW_STATS", "1"),
        ("NIX_SHOW_STATS_PATH", file.as_str()),
    ];
    assert_eq!(dir.nix_instantiate_with(&args, &env, "").quiet(), "1\n");
    let text = std::fs::read_to_string(&file).expect("the statistics are written");
    for key in [
        "cpuTime",
        "envs",
        "gc",
        "list",
        "nrAvoided",
        "nrExprs",
        "nrFunctionCalls",
        "nrLookups",
        "nrOpUpdateValuesCopied",
        "nrOpUpdates",
        "nrPrimOpCalls",
        "nrThunks",
        "sets",
        "sizes",
        "symbols",
        "time",
        "values",
    ] {
        assert!(text.contains(&format!("\"{key}\":")), "{key}: {text}");
    }
    assert!(
        text.contains("\"nrFunctionCalls\": 1,") && text.contains("\"nrOpUpdates\": 1,"),
        "{text}"
    );
    // Collections show when there are some.
    let args = [
        "--eval",
        "-E",
        "builtins.foldl' (a: i: builtins.length (builtins.genList (x: [ x ]) 1000)) 0 (builtins.genList (x: x) 30000)",
    ];
    assert_eq!(dir.nix_instantiate_with(&args, &env, "").quiet(), "1000\n");
    let text = std::fs::read_to_string(&file).expect("the statistics are written");
    assert!(
        text.contains("\"cycles\": ") && !text.contains("\"cycles\": 0,"),
        "{text}"
    );
    assert!(!text.contains("\"gc\": 0,"), "{text}");
    let args = ["--eval", "-E", "1"];
    let shown = dir.nix_instantiate_with(&args, &[("NIX_SHOW_STATS", "1")], "");
    assert!(shown.err.starts_with("{\n  \"cpuTime\""), "{}", shown.err);
}

#[test]
fn calls_are_traced_and_sampled() {
    let dir = Folder::new();
    let traced = |expr: &str| {
        let args = ["--eval", "--strict", "--trace-function-calls", "-E", expr];
        let outcome = dir.nix_instantiate_with(&args, &[], "");
        let lines = outcome.err.lines();
        lines
            .filter_map(|line| {
                let (line, time) = line.rsplit_once(" at ")?;
                assert!(time.parse::<u128>().is_ok(), "{line} {time}");
                let line = line.strip_prefix("function-trace ")?;
                Some(line.replace("«string»:", ""))
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(
        traced("let f = x: if x == 0 then 0 else f (x - 1); in f 1"),
        ["entered 1:48", "entered 1:34", "exited 1:34", "exited 1:48"]
    );
    // Errors end calls as well, innermost first; a call that a builtin makes is where its function is.
    assert_eq!(
        traced("builtins.tryEval (map (x: throw x) [ \"a\" ])"),
        [
            "entered 1:1",
            "entered 1:19",
            "exited 1:19",
            "exited 1:1",
            "entered 1:24",
            "entered 1:27",
            "exited 1:27",
            "exited 1:24",
        ]
    );
    assert_eq!(traced("(x: y: x) 1"), ["entered 1:1", "exited 1:1"]);
    assert_eq!(traced("1 2"), ["entered 1:1", "exited 1:1"]);

    let sampled = |expr: &str| {
        let args = [
            "--eval",
            "--eval-profiler",
            "flamegraph",
            "--eval-profiler-frequency",
            "0",
            "--eval-profile-file",
            "profile",
            "-E",
            expr,
        ];
        dir.nix_instantiate_with(&args, &[], "");
        let text = std::fs::read_to_string(dir.path().join("profile")).unwrap_or_default();
        text.replace("«string»:", "")
    };
    assert_eq!(
        sampled("let a = builtins.all (let f = x: x; in f); in a [ true true ]"),
        "1:9:primop all 1\n1:47:primop all 1\n1:47:primop all;1:31:f 2\n"
    );
    assert_eq!(
        sampled("{ __functor = x: arg: arg; } 1"),
        "1:1:functor 1\n1:1:functor;1:3 1\n"
    );
    assert_eq!(
        sampled("builtins.derivationStrict { name = \"some\" + \"thing\"; }"),
        "1:1:primop derivationStrict:something 1\n"
    );
    assert_eq!(
        sampled("builtins.tryEval (throw \"x\")"),
        "1:1:primop tryEval 1\n1:1:primop tryEval;1:19:primop throw 1\n"
    );
    // Operators are no calls.
    assert_eq!(sampled("1 - 2 < 3"), "");
    let unwritten = [
        "--eval",
        "--eval-profiler",
        "flamegraph",
        "--eval-profile-file",
        "/no/where",
        "-E",
        "1",
    ];
    assert!(
        dir.nix_instantiate(&unwritten)
            .error()
            .contains("opening file '/no/where'")
    );
    let unknown = ["--eval", "--eval-profiler", "bogus", "-E", "1"];
    assert!(
        dir.nix_instantiate(&unknown)
            .error()
            .contains("'eval-profiler'")
    );
}

#[test]
fn limits_end_in_errors() {
    let dir = Folder::new();
    let eval = |expr: &str| {
        let args = [
            "--eval",
            "--strict",
            "--nivis-memory-limit",
            "64M",
            "-E",
            expr,
        ];
        dir.nix_instantiate(&args).error().to_string()
    };
    assert!(eval("builtins.genList (n: n) 100000000").contains("out of memory"));
    assert!(eval("let f = n: [ n ] ++ f (n + 1); in f 1").contains("stack overflow"));
    assert!(eval("let x = x + 1; in x").contains("infinite recursion"));
    assert!(
        eval("builtins.foldl' (a: b: a + a) \"0123456789\" (builtins.genList (n: n) 40)")
            .starts_with("error: ")
    );
    let cyclic = dir.nix_instantiate(&[
        "--eval",
        "--json",
        "--strict",
        "-E",
        "let x = { inherit x; }; in x",
    ]);
    assert_eq!(
        cyclic.error(),
        "error: stack overflow; max-call-depth exceeded"
    );
    assert_eq!(
        dir.nix_instantiate(&["--eval", "--strict", "-E", "let x = { inherit x; }; in x"])
            .quiet(),
        "{ x = «repeated»; }\n"
    );
    let brackets = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep = dir.nix_instantiate_with(&["--eval", "-"], &[], &brackets);
    assert!(matches!(deep.status, 0 | 1), "{}", deep.status);
}

/// Files that belong to the language lie nowhere, but can be named like others.
#[test]
fn files_of_nix_itself_are_arguments() {
    let dir = Folder::new();
    let args = [
        "--argstr",
        "url",
        "file:///nowhere",
        "--argstr",
        "sha256",
        "",
    ];
    let read =
        dir.nix_instantiate(&[&["<nix/fetchurl.nix>", "--eval", "-A", "name"], &args[..]].concat());
    assert_eq!(read.quiet(), "\"nowhere\"\n");
    let found = dir.nix_instantiate(&["--find-file", "nix/fetchurl.nix"]);
    assert_eq!(
        found.error(),
        "error: '<nix/fetchurl.nix>' has no physical path"
    );
}

/// Tools look for these lines to know what a build depends on.
#[test]
fn evaluation_can_be_followed() {
    let dir = Folder::new();
    dir.write("source", "text\n")
        .write("default.nix", "import ./other.nix")
        .write(
            "other.nix",
            r#"derivation { name = "n"; system = "s"; builder = ./source; }"#,
        );
    let store = dir.path().join("root").display().to_string();
    let lines = |flag: &[&str]| {
        let args = [&["--store", &store], flag].concat();
        let outcome = dir.nix_instantiate(&args);
        assert_eq!(outcome.status, 0, "{outcome:?}");
        let lines = outcome.err.lines().filter(|l| !l.starts_with("warning: "));
        let drv = outcome.out.trim();
        lines.map(|l| l.replace(drv, "DRV")).collect::<Vec<_>>()
    };
    let none: [&str; 0] = [];
    assert_eq!(lines(&[]), none);
    let files = [
        "evaluating file '/pwd/default.nix'",
        "evaluating file '/pwd/other.nix'",
    ];
    assert_eq!(lines(&["-v"]), files);
    let all = lines(&["-vv"]);
    assert_eq!(all[..2], files);
    assert!(
        all[2].starts_with("copied source '/pwd/source' -> '/nix/store/"),
        "{all:?}"
    );
    assert_eq!(all[3], "instantiated 'n' -> 'DRV'");
}

#[test]
fn old_names_of_hash_formats_are_warned_about() {
    let dir = Folder::new();
    let convert = r#"builtins.convertHash { hash = "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="; toHashFormat = "base32"; }"#;
    let nix32 = "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73";
    let warning = "warning: \"base32\" is a deprecated alias for hash format \"nix32\".\n";
    let outcome = dir.nix_instantiate(&["--eval", "-E", convert]);
    assert_eq!(outcome.out, format!("\"{nix32}\"\n"));
    assert_eq!(outcome.err, warning);
    let sri = "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
    let outcome = dir.named("nix", &["hash", "convert", "--to", "base32", sri], &[], "");
    assert_eq!(outcome.out, format!("{nix32}\n"));
    assert_eq!(outcome.err, warning);
}

#[test]
fn texts_named_as_derivations_are_derivations() {
    let dir = Folder::new();
    let store = dir.path().join("root").display().to_string();
    let file = r#"builtins.toFile "x.drv" "no derivation""#;
    let outcome = dir.nix_instantiate(&["--eval", "-E", file]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    let args = ["--eval", "--read-write-mode", "--store", &store, "-E", file];
    let outcome = dir.nix_instantiate(&args);
    assert!(
        outcome
            .error()
            .starts_with("error: error parsing derivation '"),
        "{outcome:?}"
    );
}

#[test]
fn sources_nested_too_deeply_are_named() {
    let dir = Folder::new();
    let deepest = std::iter::repeat_n("x", 64).collect::<Vec<_>>().join("/");
    let deep = dir.path().join("deep");
    std::fs::create_dir_all(deep.join(&deepest)).unwrap();
    let outcome = dir.nix_instantiate(&["--eval", "-E", "\"${./deep}\""]);
    let expected =
        format!("error: path '/pwd/deep/{deepest}' exceeds maximum NAR directory depth of 64");
    assert_eq!(outcome.error().lines().next(), Some(expected.as_str()));
}

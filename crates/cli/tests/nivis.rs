//! The command `nivis`.

mod common;

use common::Folder;

#[test]
fn eval_prints_as_nix_eval_does() {
    let dir = Folder::new();
    let eval = |expr: &str| dir.nivis(&["eval", "--expr", expr]).quiet().to_string();
    assert_eq!(
        eval("{ b = 1 + 1; a = [ (throw \"x\") ]; }"),
        "{ a = [ «error: x» ]; b = 2; }\n"
    );
    assert_eq!(
        eval("[ { } (x: x) builtins.add (builtins.add 1) ]"),
        "[ { } «lambda @ «string»:1:8» «primop add» «partially applied primop add» ]\n"
    );
    assert_eq!(
        eval(r#"{ d = derivation { name = "n"; system = "s"; builder = "b"; }; }"#),
        "{ d = «derivation /nix/store/wr1i7p014rsirg48bgmkclzgi393aj0p-n.drv»; }\n"
    );
    let fake = |path: &str| {
        eval(&format!(
            "{{ type = \"derivation\"; drvPath = \"{path}\"; }}"
        ))
    };
    assert_eq!(
        fake("/nix/store//g76zcpqc540lrc8i6g7xy6ip0npn2hnp-a"),
        "«derivation /nix/store/g76zcpqc540lrc8i6g7xy6ip0npn2hnp-a»\n"
    );
    assert_eq!(
        fake("/nix/store/a"),
        "«error: path '/nix/store/a' is not in the Nix store»\n"
    );
    assert_eq!(
        eval("let x = { inherit x; }; in x"),
        "{ x = «repeated»; }\n"
    );
    assert_eq!(
        dir.nivis(&["eval", "-E", "throw \"x\""]).error(),
        "error: x"
    );
    assert_eq!(
        dir.nivis(&["eval", "-E", "let f = n: { a = f (n + 1); }; in f 0"])
            .error(),
        "error: stack overflow; max-call-depth exceeded"
    );
}

#[test]
fn eval_takes_attribute_paths_and_functions() {
    let dir = Folder::new();
    dir.write("f.nix", "{ x ? 1 }: { a.b = x; s = \"text\"; }");
    let eval = |args: &[&str]| dir.nivis(&[&["eval"], args].concat()).quiet().to_string();
    assert_eq!(eval(&["--file", "f.nix", "a.b"]), "1\n");
    assert_eq!(eval(&["f.nix", "a.b", "--arg", "x", "2"]), "2\n");
    assert_eq!(eval(&["f.nix", "-A", "s", "--raw"]), "text");
    assert_eq!(eval(&["f.nix", "a", "--json"]), "{\"b\":1}\n");
    assert_eq!(eval(&["f.nix", "a", "--apply", "a: a.b + 41"]), "42\n");
}

#[test]
fn eval_is_pure_unless_told_otherwise() {
    let dir = Folder::new();
    dir.write("f.nix", "builtins ? currentSystem");
    assert_eq!(
        dir.nivis(&["eval", "--expr", "builtins ? currentSystem"])
            .quiet(),
        "false\n"
    );
    assert_eq!(
        dir.nivis(&["eval", "--impure", "--expr", "builtins ? currentSystem"])
            .quiet(),
        "true\n"
    );
    assert_eq!(dir.nivis(&["eval", "-f", "f.nix"]).quiet(), "true\n");
    assert_eq!(dir.nivis(&["eval", "-f", "f.nix", "--pure-eval"]).status, 1);
}

#[test]
fn eval_writes_files_only_where_told() {
    let dir = Folder::new();
    let args = [
        "eval",
        "--expr",
        "{ a = \"one\"; b.c = \"two\"; }",
        "--write-to",
        "out",
    ];
    assert_eq!(dir.nivis(&args).quiet(), "");
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).expect("a file");
    assert_eq!(
        (read("out/a").as_str(), read("out/b/c").as_str()),
        ("one", "two")
    );
    assert_eq!(dir.nivis(&args).error(), "error: path 'out' already exists");
    let up = dir.nivis(&[
        "eval",
        "--expr",
        "{ \"..\" = \"x\"; }",
        "--write-to",
        "other",
    ]);
    assert_eq!(up.error(), "error: invalid file name '..'");
    let store = dir.path().join("root").display().to_string();
    dir.write("source", "s");
    let path = dir.nivis(&[
        "eval",
        "--impure",
        "--raw",
        "--store",
        &store,
        "--expr",
        "\"${./source}\"",
    ]);
    assert!(path.quiet().ends_with("-source"));
    assert!(!dir.path().join("root").exists());
}

#[test]
fn instantiate_and_parse() {
    let dir = Folder::new();
    dir.write(
        "default.nix",
        r#"derivation { name = "n"; system = "s"; builder = "b"; }"#,
    );
    let drv = "/nix/store/wr1i7p014rsirg48bgmkclzgi393aj0p-n.drv\n";
    assert_eq!(dir.nivis(&["instantiate", "--dry-run"]).quiet(), drv);
    assert_eq!(
        dir.nivis(&["instantiate", "--eval", "--strict", "-E", "[ (1 + 1) ]"])
            .quiet(),
        "[ 2 ]\n"
    );
    assert_eq!(dir.nivis(&["parse", "-E", "1 + 1"]).quiet(), "(1 + 1)\n");
    assert!(
        dir.nivis(&["parse", "--sexpr", "default.nix"])
            .quiet()
            .starts_with('(')
    );
}

#[test]
fn help_completions_and_wrong_usage() {
    let dir = Folder::new();
    assert!(dir.nivis(&["--help"]).quiet().contains("instantiate"));
    assert!(dir.nivis(&["--version"]).quiet().starts_with("nivis "));
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(
            dir.nivis(&["completions", shell])
                .quiet()
                .contains("argstr"),
            "{shell}"
        );
    }
    for wrong in [
        &["--bogus"][..],
        &["eval"],
        &["eval", "--raw", "--json", "-E", "1"],
        &[],
    ] {
        let outcome = dir.nivis(wrong);
        assert_eq!((outcome.status, outcome.out.as_str()), (1, ""), "{wrong:?}");
    }
}

//! Facts in here were taken from C++ Nix 2.34.8.

use super::*;
use crate::hash::Hash;
use crate::placeholder::{DownstreamPlaceholder, hash_placeholder};
use proptest::prelude::*;

const EMPTY_SHA256: &str = "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

fn store() -> StoreDir {
    StoreDir::default()
}

/// As the language makes it of `derivation { … }`, before outputs are computed.
fn drv(name: &str, outputs: &[&str], env: &[(&str, &str)]) -> Derivation {
    let mut drv = Derivation::new(name);
    drv.platform = "x86_64-linux".into();
    drv.builder = "/bin/sh".into();
    for (key, value) in [
        ("name", name),
        ("system", "x86_64-linux"),
        ("builder", "/bin/sh"),
    ]
    .iter()
    .chain(env)
    {
        drv.env.insert((*key).into(), (*value).into());
    }
    for output in outputs {
        drv.outputs
            .insert((*output).into(), DerivationOutput::Deferred);
        drv.env.insert((*output).into(), "".into());
    }
    drv
}

fn fixed(name: &str, method: ContentAddressMethod, hash: &str, env: &[(&str, &str)]) -> Derivation {
    let mut drv = drv(name, &["out"], env);
    drv.env.insert("outputHash".into(), hash.into());
    let hash = Hash::parse_any(hash, None).unwrap();
    let content = ContentAddress { method, hash };
    drv.outputs
        .insert("out".into(), DerivationOutput::CaFixed(content));
    drv
}

fn out_path(drv: &Derivation, output: &str) -> String {
    let path = drv.outputs[output].path(&store(), &drv.name, output);
    store().print(&path.unwrap().unwrap())
}

/// Completes a derivation and checks path and text.
fn check(drv: &mut Derivation, memo: &mut DrvHashMemo, path: &str, text: &str) -> StorePath {
    let mut found = Vec::new();
    let found_path = drv.finish_with_text(&store(), memo, &mut found).unwrap();
    assert_eq!(String::from_utf8(found.clone()).unwrap(), text);
    assert_eq!(store().print(&found_path), path);
    assert_eq!(drv.drv_path(&store()).unwrap(), found_path);
    assert_eq!(drv.to_aterm(&store()).unwrap(), found);
    assert_eq!(
        Derivation::parse_aterm(&store(), &drv.name, &found).unwrap(),
        *drv
    );
    // Completing once more changes nothing.
    let mut again = drv.clone();
    assert_eq!(again.finish(&store(), memo).unwrap(), found_path);
    assert_eq!(again, *drv);
    found_path
}

#[test]
fn several_outputs_and_escapes() {
    let mut drv = drv(
        "m",
        &["out", "dev", "a"],
        &[("outputs", "out dev a"), ("foo", "a\"b\\c\nd\re\tf${")],
    );
    check(
        &mut drv,
        &mut DrvHashMemo::new(),
        "/nix/store/an7852i1rrnbhj4c75m1pqrhhv7azfjy-m.drv",
        r#"Derive([("a","/nix/store/x2fg00mr1mg73r773ja2d52yfaq0k6r8-m-a","",""),("dev","/nix/store/lhh3nqdkxjnmq0vq60395pd856xcyfc1-m-dev","",""),("out","/nix/store/1sh441jpqljii6wg5bd4zygbis8l9q4i-m","","")],[],[],"x86_64-linux","/bin/sh",[],[("a","/nix/store/x2fg00mr1mg73r773ja2d52yfaq0k6r8-m-a"),("builder","/bin/sh"),("dev","/nix/store/lhh3nqdkxjnmq0vq60395pd856xcyfc1-m-dev"),("foo","a\"b\\c\nd\re\tf${"),("name","m"),("out","/nix/store/1sh441jpqljii6wg5bd4zygbis8l9q4i-m"),("outputs","out dev a"),("system","x86_64-linux")])"#,
    );
}

#[test]
fn fixed_outputs() {
    use ContentAddressMethod::*;
    let sha1 = "sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709";
    for (method, mode, hash, path) in [
        (
            Flat,
            "",
            EMPTY_SHA256,
            "pn3mj6yj1algsry47a0gxx2k2yrvapgz-f.drv",
        ),
        (
            Nar,
            "recursive",
            EMPTY_SHA256,
            "kz8r4n8jyzx1j9lfjdgk3mc68g6mv9w2-f.drv",
        ),
        (Nar, "nar", sha1, "q008anaisfv56wwlqscmx30v075b3933-f.drv"),
        (
            Text,
            "text",
            EMPTY_SHA256,
            "z5ic9n2f5nxqz1glqckarik25kk2frck-f.drv",
        ),
        (Git, "git", sha1, "d04fdl7shzf0f1dx2a274p7aq13yyz8d-f.drv"),
    ] {
        let mode = [("outputHashMode", mode)];
        let env = if mode[0].1.is_empty() { &[][..] } else { &mode };
        let mut drv = fixed("f", method, hash, env);
        let mut memo = DrvHashMemo::new();
        let found = drv.finish(&store(), &mut memo).unwrap();
        assert_eq!(found.base_name(), path);
        let text = drv.to_aterm(&store()).unwrap();
        assert_eq!(Derivation::parse_aterm(&store(), "f", &text).unwrap(), drv);
        assert!(!memo.get(&found).unwrap().is_deferred());
    }
}

/// The reference writes the platform without escapes: an odd one gives the same path, and a file that
/// nobody can read.
#[test]
fn the_platform_is_not_escaped() {
    let mut drv = drv("x", &["out"], &[("system", "a\"b\n\\")]);
    drv.platform = "a\"b\n\\".into();
    let path = drv.finish(&store(), &mut DrvHashMemo::new()).unwrap();
    assert_eq!(path.base_name(), "7br1r847p8fv71fimy5xrrizylhb0fz4-x.drv");
    let text = drv.to_aterm(&store()).unwrap();
    assert!(Derivation::parse_aterm(&store(), "x", &text).is_err());
}

/// Two derivations that differ in how a fixed output is obtained have the same output paths. A third
/// that uses an output of each sees them as one input with both outputs.
#[test]
fn inputs_with_the_same_hash_are_merged() {
    let store = store();
    let mut memo = DrvHashMemo::new();
    let mut lib = |url: &str| {
        let mut src = fixed(
            "src",
            ContentAddressMethod::Flat,
            EMPTY_SHA256,
            &[("url", url)],
        );
        let src_path = src.finish(&store, &mut memo).unwrap();
        let mut lib = drv("lib", &["out", "dev"], &[("outputs", "out dev")]);
        lib.env.insert("src".into(), out_path(&src, "out").into());
        lib.input_drvs
            .insert(src_path, ["out"].into_iter().collect());
        let path = lib.finish(&store, &mut memo).unwrap();
        (lib, path)
    };
    let (one, one_path) = lib("one");
    let (two, two_path) = lib("two");
    assert_eq!(
        one_path.base_name(),
        "y24p4yjcg91vrbirnhmg9531cdmcniq4-lib.drv"
    );
    assert_eq!(
        two_path.base_name(),
        "02p5phmmpcjzyv2jzhdasyaccxlbc306-lib.drv"
    );
    assert_eq!(one.outputs, two.outputs);
    assert_eq!(memo.get(&one_path), memo.get(&two_path));

    let text = store
        .make_text_path("c.txt", &crate::hash::sha256("c"), [])
        .unwrap();
    let mut merged = drv("merged", &["out"], &[]);
    merged.env.insert("a".into(), out_path(&one, "out").into());
    merged.env.insert("b".into(), out_path(&two, "dev").into());
    merged.env.insert("c".into(), store.print(&text).into());
    merged.args = vec!["-c".into(), "x\ty".into()];
    merged.input_srcs.insert(text);
    merged
        .input_drvs
        .insert(one_path, ["out"].into_iter().collect());
    merged
        .input_drvs
        .insert(two_path, ["dev"].into_iter().collect());
    check(
        &mut merged,
        &mut memo,
        "/nix/store/q3xvwk4wvhi05gls0fjzn8mc2r6pb2qd-merged.drv",
        r#"Derive([("out","/nix/store/yzq9ijf2mhq1wibwah59zl4zl67f4rsi-merged","","")],[("/nix/store/02p5phmmpcjzyv2jzhdasyaccxlbc306-lib.drv",["dev"]),("/nix/store/y24p4yjcg91vrbirnhmg9531cdmcniq4-lib.drv",["out"])],["/nix/store/hhfhfkhwnfyir3qfcvn0zsadbjjvd0pi-c.txt"],"x86_64-linux","/bin/sh",["-c","x\ty"],[("a","/nix/store/f52bzk92vllw68ll2cyrikin0ihphx3y-lib"),("b","/nix/store/il7lx1fmdfmsbsqjfhm20wr9nx4h7shp-lib-dev"),("builder","/bin/sh"),("c","/nix/store/hhfhfkhwnfyir3qfcvn0zsadbjjvd0pi-c.txt"),("name","merged"),("out","/nix/store/yzq9ijf2mhq1wibwah59zl4zl67f4rsi-merged"),("system","x86_64-linux")])"#,
    );
}

#[test]
fn structured_attributes() {
    let mut drv = Derivation::new("s");
    drv.platform = "x86_64-linux".into();
    drv.builder = "/bin/sh".into();
    for output in ["out", "doc"] {
        drv.outputs
            .insert(output.into(), DerivationOutput::Deferred);
    }
    drv.structured_attrs = Some(
        "{\"a\":1,\"builder\":\"/bin/sh\",\"name\":\"s\",\"outputs\":[\"out\",\"doc\"],\"system\":\"x86_64-linux\",\"zz\":[1.5,null,\"é\\n\"]}".into(),
    );
    check(
        &mut drv,
        &mut DrvHashMemo::new(),
        "/nix/store/50k0a078sv24klj51jbsi4w70gsp6wr2-s.drv",
        r#"Derive([("doc","/nix/store/in7n6dki9lrma7ms9x0h8148l5dpxbyf-s-doc","",""),("out","/nix/store/d7ym1c84lcvwbfa51x5aqv0f9lv4cln3-s","","")],[],[],"x86_64-linux","/bin/sh",[],[("__json","{\"a\":1,\"builder\":\"/bin/sh\",\"name\":\"s\",\"outputs\":[\"out\",\"doc\"],\"system\":\"x86_64-linux\",\"zz\":[1.5,null,\"é\\n\"]}"),("doc","/nix/store/in7n6dki9lrma7ms9x0h8148l5dpxbyf-s-doc"),("out","/nix/store/d7ym1c84lcvwbfa51x5aqv0f9lv4cln3-s")])"#,
    );
}

fn floating(name: &str, outputs: &[&str], method: ContentAddressMethod) -> Derivation {
    let mut drv = drv(name, &[], &[]);
    for output in outputs {
        let algorithm = HashAlgorithm::Sha256;
        drv.outputs.insert(
            (*output).into(),
            DerivationOutput::CaFloating { method, algorithm },
        );
        drv.env
            .insert((*output).into(), hash_placeholder(output).into());
    }
    drv
}

#[test]
fn floating_outputs_and_what_depends_on_them() {
    let mut memo = DrvHashMemo::new();
    let mut ca = floating("ca", &["out", "dev"], ContentAddressMethod::Nar);
    ca.env.insert("outputs".into(), "out dev".into());
    let ca_path = check(
        &mut ca,
        &mut memo,
        "/nix/store/sygnqnvpgr86b6w9i3sigqwkz8y13fld-ca.drv",
        r#"Derive([("dev","","r:sha256",""),("out","","r:sha256","")],[],[],"x86_64-linux","/bin/sh",[],[("builder","/bin/sh"),("dev","/02qcpld1y6xhs5gz9bchpxaw0xdhmsp5dv88lh25r2ss44kh8dxz"),("name","ca"),("out","/1rz4g4znpzjwh1xymhjpm42vipw92pr73vdgl6xs1hycac8kf2n9"),("outputs","out dev"),("system","x86_64-linux")])"#,
    );
    assert!(memo.get(&ca_path).unwrap().is_deferred());
    let placeholder = DownstreamPlaceholder::unknown_ca_output(&ca_path, "dev").unwrap();
    let mut user = drv("deferred", &["out"], &[("x", &placeholder.render())]);
    user.input_drvs
        .insert(ca_path, ["dev"].into_iter().collect());
    let path = check(
        &mut user,
        &mut memo,
        "/nix/store/d9mgiaplncwy4b2kcravqbywah702j61-deferred.drv",
        r#"Derive([("out","","","")],[("/nix/store/sygnqnvpgr86b6w9i3sigqwkz8y13fld-ca.drv",["dev"])],[],"x86_64-linux","/bin/sh",[],[("builder","/bin/sh"),("name","deferred"),("out",""),("system","x86_64-linux"),("x","/19s9vml34nwg526z8s87mp48qj3i5cri6n3bl10mff5qsmaizq74")])"#,
    );
    assert!(memo.get(&path).unwrap().is_deferred());
    let wrong = out_of(&path);
    user.outputs.insert("out".into(), wrong);
    assert!(user.finish(&store(), &mut memo).is_err());
}

fn out_of(path: &StorePath) -> DerivationOutput {
    DerivationOutput::InputAddressed(path.clone())
}

#[test]
fn impure_outputs() {
    let mut imp = drv("imp", &[], &[("out", &hash_placeholder("out"))]);
    let method = ContentAddressMethod::Nar;
    let algorithm = HashAlgorithm::Sha256;
    imp.outputs
        .insert("out".into(), DerivationOutput::Impure { method, algorithm });
    check(
        &mut imp,
        &mut DrvHashMemo::new(),
        "/nix/store/063k7v39p1qr74jc37ms4y5rpkw9dsbc-imp.drv",
        r#"Derive([("out","","r:sha256","impure")],[],[],"x86_64-linux","/bin/sh",[],[("builder","/bin/sh"),("name","imp"),("out","/1rz4g4znpzjwh1xymhjpm42vipw92pr73vdgl6xs1hycac8kf2n9"),("system","x86_64-linux")])"#,
    );
}

#[test]
fn dynamic_derivations() {
    let mut memo = DrvHashMemo::new();
    let mut hello = floating("hello.drv", &["out"], ContentAddressMethod::Text);
    hello.env.insert("outputHashMode".into(), "text".into());
    hello.env.insert("outputHashAlgo".into(), "sha256".into());
    let hello_path = hello.finish(&store(), &mut memo).unwrap();
    assert_eq!(
        hello_path.base_name(),
        "dz4k4qqmlxbs3gx58fp5rwa7rg88ban9-hello.drv.drv"
    );
    let placeholder = DownstreamPlaceholder::unknown_ca_output(&hello_path, "out")
        .unwrap()
        .unknown_derivation("out");
    let mut user = drv("user", &["out"], &[("x", &placeholder.render())]);
    let mut inputs = InputOutputs::new();
    inputs.add_dynamic(["out"], "out").unwrap();
    user.input_drvs.insert(hello_path, inputs);
    check(
        &mut user,
        &mut memo,
        "/nix/store/lwcrz5gvl6wh3365hi565vdb2m955jvc-user.drv",
        r#"DrvWithVersion("xp-dyn-drv",[("out","","","")],[("/nix/store/dz4k4qqmlxbs3gx58fp5rwa7rg88ban9-hello.drv.drv",([],[("out",["out"])]))],[],"x86_64-linux","/bin/sh",[],[("builder","/bin/sh"),("name","user"),("out",""),("system","x86_64-linux"),("x","/0sxwn4vawkjam1rzv6inh740ip30f9wfk7x8yn2wj8zqyh8ik9jk")])"#,
    );
    assert!(
        InputOutputs::new()
            .add_dynamic(vec!["out"; 65], "out")
            .is_err()
    );
}

#[test]
fn contradictions_are_refused() {
    let finish = |drv: &mut Derivation| {
        drv.finish(&store(), &mut DrvHashMemo::new())
            .map_err(|e| e.message().to_owned())
    };
    let good = drv("x", &["out"], &[]);
    let message = |change: &dyn Fn(&mut Derivation)| {
        let mut drv = good.clone();
        change(&mut drv);
        finish(&mut drv).unwrap_err()
    };
    assert_eq!(
        message(&|d| d.outputs.clear()),
        "must have at least one output"
    );
    assert_eq!(
        message(&|d| {
            d.env.insert("out".into(), "/elsewhere".into());
        }),
        format!(
            "derivation has incorrect environment variable 'out', should be '/nix/store/{}-x' but is actually '/elsewhere'",
            out_hash(&good)
        )
    );
    assert!(
        message(&|d| {
            d.env.insert("__json".into(), "{}".into());
        })
        .contains("Cannot have an environment variable named '__json'")
    );
    assert_eq!(
        message(&|d| {
            let content = ContentAddress {
                method: ContentAddressMethod::Flat,
                hash: Hash::zero(HashAlgorithm::Sha256),
            };
            d.outputs
                .insert("z".into(), DerivationOutput::CaFixed(content));
        }),
        "can't mix derivation output types"
    );
    assert!(message(&|d| d.name = "a b".into()).contains("illegal character ' '"));
    assert!(
        message(&|d| {
            d.outputs.insert("a/b".into(), DerivationOutput::Deferred);
        })
        .contains("illegal character '/'")
    );
    assert!(message(&|d| d.name = "a".repeat(208)).contains("no longer than 211 characters"));
    let unknown = StorePath::from_base_name("58n44qvvh49mxyash33m1kadrd9k20gr-x.drv").unwrap();
    assert!(
        message(&|d| {
            d.input_drvs
                .insert(unknown.clone(), ["out"].into_iter().collect());
        })
        .contains("is not known")
    );
    let mut memo = DrvHashMemo::new();
    let path = good.clone().finish(&store(), &mut memo).unwrap();
    let mut user = good.clone();
    user.input_drvs.insert(path, ["dev"].into_iter().collect());
    assert_eq!(
        user.finish(&store(), &mut memo).unwrap_err().message(),
        "no hash for output 'dev' of derivation 'x'"
    );
}

fn out_hash(drv: &Derivation) -> String {
    let mut drv = drv.clone();
    drv.finish(&store(), &mut DrvHashMemo::new()).unwrap();
    out_path(&drv, "out")["/nix/store/".len()..][..32].to_owned()
}

#[test]
fn long_chains_are_loaded_without_recursion() {
    let store = store();
    let mut memo = DrvHashMemo::new();
    let mut all = std::collections::HashMap::new();
    let mut last: Option<StorePath> = None;
    for i in 0..5_000 {
        let mut drv = drv("x", &["out"], &[("i", &i.to_string())]);
        if let Some(last) = last {
            drv.input_drvs.insert(last, ["out"].into_iter().collect());
        }
        let path = drv.finish(&store, &mut memo).unwrap();
        all.insert(path.clone(), drv);
        last = Some(path);
    }
    let last = last.unwrap();
    let mut fresh = DrvHashMemo::new();
    let load = |path: &StorePath| Ok(all[path].clone());
    let mut loading = LoadingHashes::new(&mut fresh, &store, load);
    assert_eq!(
        loading.hash_modulo(&last).unwrap(),
        *memo.get(&last).unwrap()
    );
    assert_eq!(fresh.len(), all.len());

    // A derivation that says it depends on itself.
    let mut looping = all[&last].clone();
    looping
        .input_drvs
        .insert(last.clone(), ["out"].into_iter().collect());
    let mut fresh = DrvHashMemo::new();
    let load = |_: &StorePath| Ok(looping.clone());
    let mut loading = LoadingHashes::new(&mut fresh, &store, load);
    assert!(
        loading
            .hash_modulo(&last)
            .unwrap_err()
            .message()
            .contains("depends on itself")
    );
}

#[test]
fn bad_text_is_refused_with_its_place() {
    let mut drv = drv("x", &["out", "dev"], &[("a", "1"), ("b", "2")]);
    let (a, b) = (
        StorePath::from_base_name("58n44qvvh49mxyash33m1kadrd9k20gr-a").unwrap(),
        StorePath::from_base_name("68n44qvvh49mxyash33m1kadrd9k20gr-b").unwrap(),
    );
    drv.input_srcs.extend([a, b]);
    drv.finish(&store(), &mut DrvHashMemo::new()).unwrap();
    let text = String::from_utf8(drv.to_aterm(&store()).unwrap()).unwrap();
    let parse = |text: &str| Derivation::parse_aterm(&store(), "x", text.as_bytes());
    parse(&text).unwrap();
    for len in 0..text.len() {
        let error = parse(&text[..len]).unwrap_err();
        let early = len < "Derive(".len();
        assert!(
            early || error.kind() == ErrorKind::UnexpectedEnd,
            "{len}: {error}"
        );
        assert!(error.offset().is_some_and(|at| at <= len as u64));
    }
    let sources = "[\"/nix/store/58n44qvvh49mxyash33m1kadrd9k20gr-a\",\"/nix/store/68n44qvvh49mxyash33m1kadrd9k20gr-b\"]";
    let swapped = "[\"/nix/store/68n44qvvh49mxyash33m1kadrd9k20gr-b\",\"/nix/store/58n44qvvh49mxyash33m1kadrd9k20gr-a\"]";
    for (from, to, kind, message) in [
        ("Derive", "derive", ErrorKind::Aterm, "does not start with"),
        (
            "Derive(",
            "DrvWithVersion(\"xp-dyn-drv\",",
            ErrorKind::Aterm,
            "must not have a version",
        ),
        (
            "Derive(",
            "DrvWithVersion(\"2\",",
            ErrorKind::Aterm,
            "Unknown derivation ATerm format version '2'",
        ),
        (")])", ")]) ", ErrorKind::Aterm, "something follows"),
        (
            sources,
            swapped,
            ErrorKind::Aterm,
            "sources of a derivation are not sorted",
        ),
        (
            "(\"a\",\"1\")",
            "(\"b\",\"1\")",
            ErrorKind::Aterm,
            "environment variables of a derivation are not sorted",
        ),
        (
            "(\"a\",\"1\")",
            "(\"a\",\"\\1\")",
            ErrorKind::Aterm,
            "unknown escape",
        ),
        (
            "(\"a\",\"1\")",
            "(\"a\",\"\n\")",
            ErrorKind::Aterm,
            "control character",
        ),
        (
            "(\"a\",\"1\")",
            "( \"a\",\"1\")",
            ErrorKind::Aterm,
            "expected string '\"'",
        ),
        (
            "[(\"dev\"",
            "[(\"zev\"",
            ErrorKind::Aterm,
            "outputs of a derivation are not sorted",
        ),
        (
            "[(\"dev\"",
            "[(\"\"",
            ErrorKind::InvalidDerivation,
            "empty name",
        ),
        (
            "[(\"dev\"",
            "[(\"a/b\"",
            ErrorKind::InvalidName,
            "illegal character '/'",
        ),
        (
            "68n44qvvh49mxyash33m1kadrd9k20gr-b",
            "68n44qvvh49mxyash33m1kadrd9k20gr-b/..",
            ErrorKind::InvalidStorePath,
            "illegal character '/'",
        ),
        (
            "68n44qvvh49mxyash33m1kadrd9k20gr-b",
            "../store/68n44qvvh49mxyash33m1kadrd9k20gr-b",
            ErrorKind::InvalidStorePath,
            "store path",
        ),
        (
            "x86_64-linux\",\"/bin",
            "x86\\\\64-linux\",\"/bin",
            ErrorKind::Aterm,
            "escape in the platform",
        ),
    ] {
        assert!(text.contains(from), "{from}");
        let error = parse(&text.replacen(from, to, 1)).unwrap_err();
        assert_eq!(error.kind(), kind, "{to}: {error}");
        assert!(error.message().contains(message), "{to}: {error}");
        assert!(error.offset().is_some(), "{to}: {error}");
    }
    let mut fixed = fixed("f", ContentAddressMethod::Flat, EMPTY_SHA256, &[]);
    fixed.finish(&store(), &mut DrvHashMemo::new()).unwrap();
    let text = String::from_utf8(fixed.to_aterm(&store()).unwrap()).unwrap();
    for (from, to, kind) in [
        (
            "i8yf3p9li8bd9rwjsr5nkg63lxs367am-f",
            "98yf3p9li8bd9rwjsr5nkg63lxs367am-f",
            ErrorKind::InvalidDerivation,
        ),
        ("\"e3b0c4", "\"E3B0C4", ErrorKind::InvalidHash),
        ("\"e3b0c4", "\"3b0c4", ErrorKind::InvalidHash),
        ("\"sha256\"", "\"sha255\"", ErrorKind::UnknownMethod),
        ("\"sha256\"", "\"\"", ErrorKind::Aterm),
    ] {
        let error = Derivation::parse_aterm(&store(), "f", text.replacen(from, to, 1).as_bytes())
            .unwrap_err();
        assert_eq!(error.kind(), kind, "{to}: {error}");
        assert!(error.offset().is_some());
    }
}

#[test]
fn json_of_the_reference() {
    use crate::json::Json;
    let check = |drv: &mut Derivation, expected: &str| {
        drv.finish(&store(), &mut DrvHashMemo::new()).unwrap();
        assert_eq!(drv.to_json().unwrap().to_text(), expected);
        let parsed = Derivation::from_json(&Json::parse(expected).unwrap()).unwrap();
        assert_eq!(parsed, *drv);
    };
    let mut structured = Derivation::new("s");
    structured.platform = "x86_64-linux".into();
    structured.builder = "/bin/sh".into();
    for output in ["out", "doc"] {
        structured
            .outputs
            .insert(output.into(), DerivationOutput::Deferred);
    }
    structured.structured_attrs = Some("{\"a\":1,\"zz\":[1.5,null,\"é\\n\"]}".into());
    structured
        .finish(&store(), &mut DrvHashMemo::new())
        .unwrap();
    let (doc, out) = (out_path(&structured, "doc"), out_path(&structured, "out"));
    let base = |path: &str| path["/nix/store/".len()..].to_owned();
    check(
        &mut structured,
        &format!(
            r#"{{"args":[],"builder":"/bin/sh","env":{{"doc":"{doc}","out":"{out}"}},"inputs":{{"drvs":{{}},"srcs":[]}},"name":"s","outputs":{{"doc":{{"path":"{}"}},"out":{{"path":"{}"}}}},"structuredAttrs":{{"a":1,"zz":[1.5,null,"é\n"]}},"system":"x86_64-linux","version":4}}"#,
            base(&doc),
            base(&out)
        ),
    );
    let mut ca = floating("ca", &["out", "dev"], ContentAddressMethod::Nar);
    ca.env.insert("outputs".into(), "out dev".into());
    check(
        &mut ca,
        r#"{"args":[],"builder":"/bin/sh","env":{"builder":"/bin/sh","dev":"/02qcpld1y6xhs5gz9bchpxaw0xdhmsp5dv88lh25r2ss44kh8dxz","name":"ca","out":"/1rz4g4znpzjwh1xymhjpm42vipw92pr73vdgl6xs1hycac8kf2n9","outputs":"out dev","system":"x86_64-linux"},"inputs":{"drvs":{},"srcs":[]},"name":"ca","outputs":{"dev":{"hashAlgo":"sha256","method":"nar"},"out":{"hashAlgo":"sha256","method":"nar"}},"system":"x86_64-linux","version":4}"#,
    );
    let mut f = fixed("f", ContentAddressMethod::Flat, EMPTY_SHA256, &[]);
    check(
        &mut f,
        r#"{"args":[],"builder":"/bin/sh","env":{"builder":"/bin/sh","name":"f","out":"/nix/store/i8yf3p9li8bd9rwjsr5nkg63lxs367am-f","outputHash":"sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=","system":"x86_64-linux"},"inputs":{"drvs":{},"srcs":[]},"name":"f","outputs":{"out":{"hash":"sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=","method":"flat"}},"system":"x86_64-linux","version":4}"#,
    );
    let good = f.to_json().unwrap().to_text();
    for (from, to) in [
        ("\"version\":4", "\"version\":3"),
        ("\"version\":4", "\"version\":4,\"x\":1"),
        ("\"method\":\"flat\"", "\"method\":\"flat\",\"path\":\"x\""),
        ("uFU=\",\"method\"", "uFU\",\"method\""),
        ("\"args\":[]", "\"args\":{}"),
        ("\"srcs\":[]", "\"srcs\":[\"x\"]"),
        ("\"name\":\"f\",\"outputs\"", "\"name\":\"a/b\",\"outputs\""),
        ("\"env\":{", "\"env\":{\"__json\":\"{}\","),
    ] {
        assert!(good.contains(from), "{from}");
        let json = Json::parse(good.replacen(from, to, 1)).unwrap();
        assert!(Derivation::from_json(&json).is_err(), "{to}");
    }
}

// Round trips of random derivations ------------------------------------------------------------------

fn bytes() -> impl Strategy<Value = BString> {
    prop_oneof![
        1 => any::<Vec<u8>>().prop_map(BString::from),
        20 => any::<String>().prop_map(BString::from),
        20 => "[a-z\"\\\\\n\r\t]{0,20}".prop_map(BString::from),
    ]
}

fn paths(suffix: &'static str) -> impl Strategy<Value = StorePath> {
    (any::<[u8; 20]>(), "[a-z][a-z0-9.-]{0,12}").prop_map(move |(hash, name)| {
        StorePath::from_parts(hash, &format!("{name}{suffix}")).unwrap()
    })
}

fn output_names() -> impl Strategy<Value = OutputName> {
    prop_oneof![Just("out".to_owned()), "[a-z]{1,5}"].prop_map(OutputName::from)
}

fn input_outputs() -> impl Strategy<Value = InputOutputs> {
    let names = || prop::collection::btree_set(output_names(), 0..4);
    let leaf = names().prop_map(|outputs| InputOutputs {
        outputs,
        dynamic: BTreeMap::new(),
    });
    leaf.prop_recursive(3, 8, 2, move |inner| {
        (
            names(),
            prop::collection::btree_map(output_names(), inner, 0..3),
        )
            .prop_map(|(outputs, dynamic)| InputOutputs { outputs, dynamic })
    })
}

fn outputs() -> impl Strategy<Value = BTreeMap<OutputName, DerivationOutput>> {
    use ContentAddressMethod::*;
    let algorithm = prop::sample::select(HashAlgorithm::ALL.to_vec());
    let method = prop::sample::select(vec![Flat, Nar, Text, Git]);
    let names = || prop::collection::btree_set(output_names(), 1..4);
    let all = |names: BTreeSet<OutputName>, output: DerivationOutput| {
        names.into_iter().map(|n| (n, output.clone())).collect()
    };
    prop_oneof![
        prop::collection::btree_map(
            output_names(),
            paths("").prop_map(DerivationOutput::InputAddressed),
            1..4
        ),
        (names(), method.clone(), algorithm.clone()).prop_map(move |(n, method, algorithm)| all(
            n,
            DerivationOutput::CaFloating { method, algorithm }
        )),
        (names(), method, algorithm).prop_map(move |(n, method, algorithm)| all(
            n,
            DerivationOutput::Impure { method, algorithm }
        )),
        names().prop_map(move |n| all(n, DerivationOutput::Deferred)),
        any::<Vec<u8>>().prop_map(|data| {
            let hash = Hash::of(HashAlgorithm::Sha256, data);
            let content = ContentAddress { method: Text, hash };
            [("out".into(), DerivationOutput::CaFixed(content))].into()
        }),
    ]
}

prop_compose! {
    fn derivations()(
        name in "[a-z][a-z0-9-]{0,10}",
        outputs in outputs(),
        input_srcs in prop::collection::btree_set(paths(""), 0..5),
        input_drvs in prop::collection::btree_map(paths(".drv"), input_outputs(), 0..5),
        platform in "[a-z0-9_-]{0,20}",
        builder in bytes(),
        args in prop::collection::vec(bytes(), 0..4),
        mut env in prop::collection::btree_map(bytes(), bytes(), 0..6),
        structured_attrs in prop::option::of(prop_oneof![
            bytes(),
            Just(r#"{"a":[1,{"b":1e30}]}"#.into()),
        ]),
    ) -> Derivation {
        env.remove(STRUCTURED_ATTRS_KEY.as_bytes());
        let platform = platform.into();
        Derivation { name, outputs, input_srcs, input_drvs, platform, builder, args, env, structured_attrs }
    }
}

proptest! {
    #[test]
    fn aterm_round_trips(drv in derivations()) {
        let text = drv.to_aterm(&store()).unwrap();
        let parsed = Derivation::parse_aterm(&store(), &drv.name, &text).unwrap();
        prop_assert_eq!(parsed, drv);
    }

    #[test]
    fn json_round_trips(drv in derivations()) {
        // Bytes that are not text have no JSON form.
        if let Ok(json) = drv.to_json() {
            let again = Derivation::from_json(&json).unwrap();
            prop_assert_eq!(again, drv);
        }
    }

    #[test]
    fn damaged_aterm_is_read_or_refused(drv in derivations(), at: prop::sample::Index, byte: u8) {
        let mut text = drv.to_aterm(&store()).unwrap();
        let at = at.index(text.len());
        text[at] = byte;
        if let Ok(parsed) = Derivation::parse_aterm(&store(), &drv.name, &text) {
            prop_assert_eq!(parsed.to_aterm(&store()).unwrap(), text);
        }
    }
}

/// Hashes by which C++ Nix 2.34.8 remembers outputs; of a floating output, of what needs it, and of neither.
#[test]
fn output_hashes_of_the_reference() {
    let store = StoreDir::new("/bench/same/store").unwrap();
    let mut memo = DrvHashMemo::new();
    for (name, text, expected) in [
        (
            "a",
            r#"Derive([("out","","r:sha256","")],[],[],"x86_64-linux","/bin/bash",["-c","mkdir $out; echo hi > $out/f"],[("PATH","/usr/bin:/bin"),("builder","/bin/bash"),("name","a"),("out","/1rz4g4znpzjwh1xymhjpm42vipw92pr73vdgl6xs1hycac8kf2n9"),("outputHashAlgo","sha256"),("outputHashMode","recursive"),("system","x86_64-linux")])"#,
            "761f6f571f42ae6377fafdd8e949bc2423a5c25dcd798ed13052be1453a533be",
        ),
        (
            "ia2",
            r#"Derive([("out","/bench/same/store/f2ky2a8nw6109kkkl6xpdqrkbrx467kg-ia2","","")],[],[],"x86_64-linux","/bin/bash",["-c","echo > $out"],[("builder","/bin/bash"),("name","ia2"),("out","/bench/same/store/f2ky2a8nw6109kkkl6xpdqrkbrx467kg-ia2"),("system","x86_64-linux")])"#,
            "f59aa9f3ce1364c9b8c923fa7ea5eefd16edab48d266695b5a7e2bcc8b071f1e",
        ),
        (
            "ia",
            r#"Derive([("out","","","")],[("/bench/same/store/p6sg9qx5mg4vagx2ih7bv1ms2c9lzri1-a.drv",["out"])],[],"x86_64-linux","/bin/bash",["-c","echo /1l3z88a5fh1cycjp86yzqdlag6ilikvrwcxh6ffw4y4d5ygrd6lm > $out"],[("builder","/bin/bash"),("name","ia"),("out",""),("system","x86_64-linux")])"#,
            "451198e2e5a01016192220d3372ea7af0a774dab5c8fae562c7890fc65439dae",
        ),
    ] {
        let drv = Derivation::parse_aterm(&store, name, text.as_bytes()).unwrap();
        let hash = drv.output_hash(&store, &mut memo).unwrap();
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected, "{name}");
        // What needs it is hashed with its variables in place.
        let modulo = drv.hash_modulo(&store, &mut memo).unwrap();
        memo.record(&drv.drv_path(&store).unwrap(), &modulo);
    }
}

//! Builds on any Linux machine: in a store of their own below a temporary folder, with the machine's `/bin/sh` and
//! its libraries through `sandbox-paths`. Where the kernel has no namespaces to offer, they say so and are skipped.

#![cfg(all(feature = "machine", target_os = "linux"))]

#[path = "build/common.rs"]
mod common;

use common::{Lab, skip_unless_possible};
use nivis_store::build::{BuildMode, BuildRequest, BuildStatus, DrvRef};
use nivis_store::{
    ContentAddress, ContentAddressMethod, DerivationOutput, Hash, HashAlgorithm, hash_placeholder,
};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Instant;

#[test]
fn chain_with_several_outputs() {
    let Some(lab) = skip_unless_possible() else {
        return;
    };
    let first = lab.shell("first", &["out", "dev"], |drv| {
        drv.script(
            "mkdir $out $dev; echo contents > $out/file; ln -s $out/file $dev/link; \
             printf '#!/bin/sh\\n' > $dev/run; chmod +x $dev/run; echo $out > $dev/self; echo $dev >> $dev/self",
        );
    });
    let dev = lab.output(&first, "dev");
    let second = lab.shell("second", &["out"], |drv| {
        drv.input(&first, &["dev"]);
        let dev = lab.print(&dev);
        drv.script(&format!("read a < {dev}/link; echo $a {dev} > $out"));
    });
    let report = lab.build(&[BuildRequest::all(second.clone())]);
    lab.expect_success(&report);
    assert_eq!(report.results[0].status, BuildStatus::Built);
    let out = &report.results[0].outputs["out"];
    assert_eq!(
        fs::read_to_string(lab.store.real_path(out)).unwrap(),
        format!("contents {}\n", lab.print(&dev))
    );
    // Only what is mentioned is referred to; the first output only through the second.
    let references = lab.store.query_references(out).unwrap();
    assert!(references.iter().eq([&dev]));
    let first_out = lab.output(&first, "out");
    let references = lab.store.query_references(&dev).unwrap();
    assert!(references.contains(&first_out) && references.contains(&dev));
    // Canonical, whatever the builder's umask.
    let run = fs::symlink_metadata(lab.store.real_path(&dev).join("run")).unwrap();
    assert_eq!(run.permissions().mode() & 0o7777, 0o555);
    assert_eq!(run.mtime(), 1);
    let info = lab.store.query_path_info(out).unwrap();
    assert_eq!(info.deriver.as_ref(), Some(&second));
    assert!(info.ultimate);
    // Again: nothing to do.
    let report = lab.build(&[BuildRequest::all(second)]);
    assert_eq!(report.results[0].status, BuildStatus::AlreadyValid);
    lab.verify();
}

#[test]
fn fixed_outputs() {
    let Some(lab) = skip_unless_possible() else {
        return;
    };
    let hash = Hash::of(HashAlgorithm::Sha256, "hello\n");
    let fixed = |name: &str, hash: &Hash, script: &str| {
        lab.shell(name, &[], |drv| {
            drv.0.outputs.insert(
                "out".into(),
                DerivationOutput::CaFixed(ContentAddress {
                    method: ContentAddressMethod::Flat,
                    hash: *hash,
                }),
            );
            drv.script(script);
        })
    };
    let right = fixed(
        "right",
        &hash,
        "echo hello > $out; echo $NIX_OUTPUT_CHECKED",
    );
    let report = lab.build(&[BuildRequest::all(right)]);
    lab.expect_success(&report);
    let info = lab
        .store
        .query_path_info(&report.results[0].outputs["out"])
        .unwrap();
    assert!(info.content_address.is_some() && info.references.is_empty());

    let wrong_hash = Hash::of(HashAlgorithm::Sha256, "other");
    let wrong = fixed("wrong", &wrong_hash, "echo hello > $out");
    let report = lab.build(&[BuildRequest::all(wrong.clone())]);
    assert_eq!(report.results[0].status, BuildStatus::HashMismatch);
    assert_eq!(
        report.results[0].message,
        format!(
            "hash mismatch in fixed-output derivation '{}':\n  specified: {}\n     got:    {}",
            lab.print(&wrong),
            wrong_hash.to_sri(),
            hash.to_sri()
        )
    );
    assert_eq!(report.failures.exit_status(), 102);
    let executable = fixed("executable", &hash, "echo hello > $out; chmod +x $out");
    let report = lab.build(&[BuildRequest::all(executable)]);
    assert_eq!(report.results[0].status, BuildStatus::OutputRejected);
    assert!(
        report.results[0]
            .message
            .contains("non-executable regular file")
    );
    lab.verify();
}

#[test]
fn structured_attributes_and_exported_graphs() {
    let Some(lab) = skip_unless_possible() else {
        return;
    };
    let dependency = lab.shell("dependency", &["out"], |drv| drv.script("echo x > $out"));
    let dependency_out = lab.output(&dependency, "out");
    let drv = lab.shell("structured", &["out"], |drv| {
        drv.input(&dependency, &["out"]);
        let text = format!(
            r#"{{"exportReferencesGraph":{{"graph":["{}"]}},"list":["a b","c"],"number":3}}"#,
            lab.print(&dependency_out)
        );
        drv.0.structured_attrs = Some(text.into());
        drv.script(
            "read x < $NIX_ATTRS_JSON_FILE || true; while read -r line; do case $line in \"declare number=3\") \
             good=1;; esac; done < $NIX_ATTRS_SH_FILE; out=; case $x in *'\"outputs\":{\"out\":\"'*) ;; *) exit 3;; esac; \
             case $x in *closureSize*narHash*) ;; *) exit 4;; esac; o=${x#*'\"outputs\":{\"out\":\"'}; echo $good > ${o%%'\"'*}",
        );
    });
    let report = lab.build(&[BuildRequest::all(drv)]);
    lab.expect_success(&report);
    let out = lab.store.real_path(&report.results[0].outputs["out"]);
    assert_eq!(fs::read_to_string(out).unwrap(), "1\n");

    let drv = lab.shell("graph", &["out"], |drv| {
        drv.input(&dependency, &["out"]);
        drv.env(
            "exportReferencesGraph",
            &format!("refs {}", lab.print(&dependency_out)),
        );
        drv.env("passAsFile", "text");
        drv.env("text", "from a file");
        drv.script(
            "read p < refs; read t < $textPath || true; echo \"$p:$t:${text-unset}\" > $out",
        );
    });
    let report = lab.build(&[BuildRequest::all(drv)]);
    lab.expect_success(&report);
    let out = lab.store.real_path(&report.results[0].outputs["out"]);
    assert_eq!(
        fs::read_to_string(out).unwrap(),
        format!("{}:from a file:unset\n", lab.print(&dependency_out))
    );
}

#[test]
fn environment_is_that_of_nix() {
    let Some(lab) = skip_unless_possible() else {
        return;
    };
    let drv = lab.shell("environment", &["out"], |drv| {
        drv.script(
            "export -p > $out; pwd >> $out; [ -t 2 ] && echo terminal >> $out; umask >> $out",
        );
    });
    let report = lab.build(&[BuildRequest::all(drv)]);
    lab.expect_success(&report);
    let out = lab.store.real_path(&report.results[0].outputs["out"]);
    let text = fs::read_to_string(out).unwrap().replace('"', "'");
    for expected in [
        "HOME='/homeless-shelter'",
        "NIX_BUILD_TOP='/build'",
        "NIX_LOG_FD='2'",
        "NIX_STORE='/nix/store'",
        "PATH='/path-not-set'",
        "PWD='/build'",
        "TEMP='/build'",
        "TEMPDIR='/build'",
        "TERM='xterm-256color'",
        "TMP='/build'",
        "TMPDIR='/build'",
        "NIX_BUILD_CORES='3'",
        "name='environment'",
        "out='/nix/store/",
        "\n/build\n",
    ] {
        assert!(text.contains(expected), "no {expected} in {text}");
    }
}

#[test]
fn failing_builders() {
    let Some(lab) = skip_unless_possible() else {
        return;
    };
    let bad = lab.shell("bad", &["out"], |drv| {
        drv.script("echo one; echo two >&2; exit 7");
    });
    let needs = lab.shell("needs", &["out"], |drv| {
        drv.input(&bad, &["out"]);
        drv.script("echo > $out");
    });
    let good = lab.shell("good", &["out"], |drv| drv.script("echo > $out"));
    let report = lab.build(&[BuildRequest::all(bad.clone())]);
    let out = lab.output(&bad, "out");
    assert_eq!(
        report.results[0].message,
        format!(
            "Cannot build '{0}'.\nReason: builder failed with exit code 7.\nOutput paths:\n  {1}\n\
             Last 2 log lines:\n> one\n> two\nFor full logs, run:\n  nix-store -l {0}",
            lab.print(&bad),
            lab.print(&out)
        )
    );
    assert_eq!(report.results[0].status, BuildStatus::PermanentFailure);
    assert_eq!(report.failures.exit_status(), 100);
    assert_eq!(lab.log(&bad), "one\ntwo\n");

    let mut settings = lab.settings();
    settings.keep_going = true;
    let requests = [BuildRequest::all(needs), BuildRequest::all(good)];
    let report = lab.build_with(settings, &requests, BuildMode::Normal);
    assert_eq!(report.results[0].status, BuildStatus::DependencyFailed);
    assert!(
        report.results[0]
            .message
            .contains("Reason: 1 dependency failed.")
    );
    assert_eq!(report.results[1].status, BuildStatus::Built);

    // Closing the output is not the end, and no reason to be killed on the way there.
    let quiet: Vec<BuildRequest> = (0..20)
        .map(|i| {
            lab.shell(&format!("quiet-{i}"), &["out"], |drv| {
                drv.script("exec >&- 2>&-; sleep 0.05; echo > $out");
            })
        })
        .map(BuildRequest::all)
        .collect();
    lab.expect_success(&lab.build(&quiet));

    let missing = lab.shell("missing", &["out"], |drv| {
        drv.0.builder = "/no/such/program".into();
    });
    let report = lab.build(&[BuildRequest::all(missing)]);
    assert!(
        report.results[0]
            .message
            .contains("> error: executing '/no/such/program': No such file or directory"),
        "{}",
        report.results[0].message
    );
    let nothing = lab.shell("nothing", &["out"], |drv| drv.script("true"));
    let report = lab.build(&[BuildRequest::all(nothing)]);
    assert!(
        report.results[0]
            .message
            .contains("failed to produce output path for output 'out'")
    );
    let system = lab.shell("system", &["out"], |drv| {
        drv.0.platform = "riscv128-plan9".into()
    });
    let report = lab.build(&[BuildRequest::all(system)]);
    assert!(
        report.results[0]
            .message
            .contains("Required system: 'riscv128-plan9'")
    );
    lab.verify();
}

#[test]
fn checking_and_repairing() {
    let Some(lab) = skip_unless_possible() else {
        return;
    };
    let random = lab.shell("random", &["out"], |drv| {
        drv.script("read x < /proc/sys/kernel/random/uuid; echo $x > $out");
    });
    let steady = lab.shell("steady", &["out"], |drv| {
        drv.script("mkdir $out; echo $out > $out/self");
    });
    let request = [BuildRequest::all(random), BuildRequest::all(steady.clone())];
    let report = lab.build_with(lab.settings(), &request[1..], BuildMode::Check);
    assert!(
        report.results[0]
            .message
            .contains("so checking is not possible")
    );
    lab.expect_success(&lab.build(&request));
    let report = lab.build_with(lab.settings(), &request[1..], BuildMode::Check);
    lab.expect_success(&report);
    let mut settings = lab.settings();
    settings.keep_failed = true;
    let report = lab.build_with(settings, &request[..1], BuildMode::Check);
    assert_eq!(report.results[0].status, BuildStatus::NotDeterministic);
    assert_eq!(report.failures.exit_status(), 104);
    assert!(
        report.results[0]
            .message
            .contains("may not be deterministic: output '")
    );
    assert!(report.results[0].message.ends_with(".check'"));
    // The folder that was asked for.
    fs::remove_dir_all(lab.store.config().state_dir.join("builds")).unwrap();

    // Damage, and repair.
    let out = lab.store.real_path(&lab.output(&steady, "out"));
    let file = out.join("self");
    fs::set_permissions(&out, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&file, "damaged").unwrap();
    let report = lab.build_with(lab.settings(), &request[1..], BuildMode::Repair);
    lab.expect_success(&report);
    assert_eq!(
        fs::read_to_string(&file).unwrap(),
        format!("{}\n", lab.print(&lab.output(&steady, "out")))
    );
    lab.verify();
}

#[test]
fn output_checks() {
    let Some(lab) = skip_unless_possible() else {
        return;
    };
    let dependency = lab.shell("dependency", &["out"], |drv| drv.script("echo x > $out"));
    let path = lab.print(&lab.output(&dependency, "out"));
    for (name, value, allowed) in [
        ("allowedReferences", "", false),
        ("allowedReferences", path.as_str(), true),
        ("disallowedReferences", path.as_str(), false),
        ("allowedRequisites", "", false),
        ("disallowedRequisites", path.as_str(), false),
        ("allowedReferences", "bogus", false),
    ] {
        let drv = lab.shell("checked", &["out"], |drv| {
            drv.input(&dependency, &["out"]);
            drv.env(name, value);
            drv.script(&format!("echo {path} > $out"));
        });
        let report = lab.build(&[BuildRequest::all(drv.clone())]);
        let result = &report.results[0];
        if allowed {
            lab.expect_success(&report);
        } else if value == "bogus" {
            assert!(
                result.message.contains("contains output name 'bogus'"),
                "{}",
                result.message
            );
        } else {
            let out = lab.print(&lab.output(&drv, "out"));
            assert_eq!(
                result.message,
                format!("output '{out}' is not allowed to refer to the following paths:\n  {path}")
            );
        }
    }
    lab.verify();
}

#[test]
fn content_addressed_and_impure() {
    let Some(lab) = skip_unless_possible() else {
        return;
    };
    let floating = DerivationOutput::CaFloating {
        method: ContentAddressMethod::Nar,
        algorithm: HashAlgorithm::Sha256,
    };
    let make = |name: &str, script: &str| {
        lab.shell(name, &[], |drv| {
            for output in ["out", "dev"] {
                drv.0.outputs.insert(output.into(), floating.clone());
                drv.env(output, &hash_placeholder(output));
            }
            drv.script(script);
        })
    };
    // The same contents by two ways, with references to itself and to another output.
    let script = "mkdir $out $dev; echo $out > $out/self; echo $out $dev > $dev/both";
    let (a, b) = (make("ca", script), make("ca", &format!("true; {script}")));
    let requests = [BuildRequest::all(a.clone()), BuildRequest::all(b)];
    let report = lab.build(&requests);
    assert!(
        report.results[0]
            .message
            .contains("experimental Nix feature 'ca-derivations' is disabled"),
        "{}",
        report.results[0].message
    );
    let plain = lab.shell("plain", &["out"], |drv| drv.script("echo > $out"));
    let plain_request = [BuildRequest::all(plain.clone())];
    lab.expect_success(&lab.build(&plain_request));
    let mut settings = lab.settings();
    settings
        .experimental_features
        .insert("ca-derivations".into());
    let report = lab.build_with(settings.clone(), &requests, BuildMode::Normal);
    lab.expect_success(&report);
    assert_eq!(report.results[0].outputs, report.results[1].outputs);
    // What was built without the feature gets its record when it is asked for with it.
    let hash = lab
        .store
        .output_hash(&lab.store.read_derivation(&plain).unwrap())
        .unwrap();
    let recorded = || lab.store.find_realisation(&hash, "out").unwrap();
    assert_eq!(recorded(), None);
    let again = lab.build_with(settings.clone(), &plain_request, BuildMode::Normal);
    lab.expect_success(&again);
    assert_eq!(recorded().unwrap().path, again.results[0].outputs["out"]);
    let out = &report.results[0].outputs["out"];
    let text = fs::read_to_string(lab.store.real_path(out).join("self")).unwrap();
    assert_eq!(text, format!("{}\n", lab.print(out)));
    // Something that depends on it: its path is known only afterwards.
    let placeholder = nivis_store::DownstreamPlaceholder::unknown_ca_output(&a, "out")
        .unwrap()
        .render();
    let user = lab.shell("user", &["out"], |drv| {
        drv.input(&a, &["out"]);
        drv.env("dependency", &placeholder);
        drv.script("echo $dependency > $out");
    });
    let report = lab.build_with(settings, &[BuildRequest::all(user)], BuildMode::Normal);
    lab.expect_success(&report);
    let used = lab.store.real_path(&report.results[0].outputs["out"]);
    assert_eq!(
        fs::read_to_string(used).unwrap(),
        format!("{}\n", lab.print(out))
    );
    lab.verify();
}

#[test]
fn dynamic_derivations() {
    let Some(lab) = skip_unless_possible() else {
        return;
    };
    // A derivation that writes a derivation.
    let inner = lab.make("inner", &["out"], |drv| drv.script("echo made > $out"));
    let text = String::from_utf8(inner.to_aterm(lab.store.store_dir()).unwrap()).unwrap();
    let outer = lab.shell("inner.drv", &[], |drv| {
        drv.0.outputs.insert(
            "out".into(),
            DerivationOutput::CaFloating {
                method: ContentAddressMethod::Text,
                algorithm: HashAlgorithm::Sha256,
            },
        );
        drv.env("out", &hash_placeholder("out"));
        drv.env("text", &text);
        drv.script("printf %s \"$text\" > $out");
    });
    let mut settings = lab.settings();
    for feature in ["ca-derivations", "dynamic-derivations"] {
        settings.experimental_features.insert(feature.into());
    }
    let request = BuildRequest::all(DrvRef::Output(Box::new(outer.into()), "out".into()));
    let report = lab.build_with(settings, &[request], BuildMode::Normal);
    lab.expect_success(&report);
    let out = lab.store.real_path(&report.results[0].outputs["out"]);
    assert_eq!(fs::read_to_string(out).unwrap(), "made\n");
}

#[test]
fn builtin_builders() {
    let lab = Lab::new();
    let tarball = lab.dir().join("channel.tar.gz");
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(
        fs::File::create(&tarball).unwrap(),
        flate2::Compression::fast(),
    ));
    let mut header = tar::Header::new_gnu();
    header.set_size(3);
    header.set_mode(0o644);
    tar.append_data(&mut header, "source/default.nix", "{ }".as_bytes())
        .unwrap();
    tar.into_inner().unwrap().finish().unwrap();
    let fetch = lab.fetch("channel.tar.gz", &tarball);
    let source = lab.print(&lab.output(&fetch, "out"));
    let unpack = lab.make_and_add("channel", &["out"], |drv| {
        drv.input(&fetch, &["out"]);
        drv.0.builder = "builtin:unpack-channel".into();
        drv.0.platform = "builtin".into();
        drv.env("channelName", "mine");
        drv.env("src", &source);
    });
    let channel = lab.print(&lab.output(&unpack, "out"));
    let profile = lab.make_and_add("profile", &["out"], |drv| {
        drv.input(&unpack, &["out"]);
        drv.0.builder = "builtin:buildenv".into();
        drv.0.platform = "builtin".into();
        drv.env("derivations", &format!("true 5 1 {channel}"));
        drv.env("manifest", &source);
    });
    let report = lab.build(&[BuildRequest::all(profile)]);
    lab.expect_success(&report);
    let out = lab.store.real_path(&report.results[0].outputs["out"]);
    assert_eq!(
        fs::read_link(out.join("mine")).unwrap().to_str().unwrap(),
        format!("{channel}/mine")
    );
    let real = lab.store.real_path(&lab.output(&unpack, "out"));
    assert_eq!(
        fs::read_to_string(real.join("mine/default.nix")).unwrap(),
        "{ }"
    );
    lab.verify();
}

#[test]
fn hooks_see_what_was_built() {
    let Some(lab) = skip_unless_possible() else {
        return;
    };
    let hook = lab.dir().join("hook");
    let told = lab.dir().join("told");
    fs::write(
        &hook,
        format!(
            "#!/bin/sh\necho \"$DRV_PATH $OUT_PATHS $NIX_CONFIG\" > {}\necho line\n",
            told.display()
        ),
    )
    .unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    let drv = lab.shell("hooked", &["out"], |drv| drv.script("echo > $out"));
    let mut settings = lab.settings();
    settings.post_build_hook = hook.display().to_string();
    settings.hook_config = "a = b".into();
    let report = lab.build_with(
        settings,
        &[BuildRequest::all(drv.clone())],
        BuildMode::Normal,
    );
    lab.expect_success(&report);
    assert_eq!(
        fs::read_to_string(told).unwrap(),
        format!(
            "{} {} a = b\n",
            lab.print(&drv),
            lab.print(&lab.output(&drv, "out"))
        )
    );
    assert!(lab.events().contains("PostBuildLogLine"));
}

#[test]
fn two_builders_of_the_same() {
    let Some(lab) = skip_unless_possible() else {
        return;
    };
    let drv = lab.shell("shared", &["out"], |drv| drv.script("sleep 1; echo > $out"));
    // As another process would: with a connection, locks and temporary roots of its own.
    let root = lab.dir();
    let other = Lab::at(root.to_str().unwrap());
    let request = [BuildRequest::all(drv)];
    let statuses = std::thread::scope(|scope| {
        let threads = [&lab, &other].map(|lab| {
            let request = &request;
            scope.spawn(move || {
                let report = lab.build(request);
                lab.expect_success(&report);
                report.results[0].status
            })
        });
        threads.map(|thread| thread.join().unwrap())
    });
    assert!(statuses.contains(&BuildStatus::Built), "{statuses:?}");
    assert!(
        statuses.contains(&BuildStatus::AlreadyValid),
        "{statuses:?}"
    );
    assert!((lab.events() + &other.events()).contains("waiting for lock on"));
    lab.verify();
}

#[test]
fn stores_that_cannot_be_written() {
    let Some(lab) = skip_unless_possible() else {
        return;
    };
    let drv = lab.shell("unwritten", &["out"], |drv| drv.script("echo > $out"));
    let mut config = lab.store.config().clone();
    config.read_only = true;
    let store = nivis_store::local::LocalStore::open(config).unwrap();
    let builder = nivis_store::build::Builder::new(
        store,
        lab.settings(),
        std::sync::Arc::new(nivis_store::build::Silent),
    );
    let report = builder.build(&[BuildRequest::all(drv.clone())], BuildMode::Normal);
    assert!(!report.results[0].status.is_success());
    assert!(!report.results[0].message.is_empty());
    assert!(!lab.store.is_valid(&lab.output(&drv, "out")).unwrap());
    lab.verify();
}

/// Answers requests in turn, and tells what was asked.
fn serve(answers: Vec<&'static str>) -> (u16, std::thread::JoinHandle<Vec<String>>) {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut buffer = [0; 1024];
            while !request.ends_with(b"\r\n\r\n") {
                let n = stream.read(&mut buffer).unwrap();
                request.extend_from_slice(&buffer[..n]);
            }
            asked.push(String::from_utf8_lossy(&request).into_owned());
            stream.write_all(answer.as_bytes()).unwrap();
        }
        asked
    });
    (port, thread)
}

#[test]
fn downloads() {
    const BUSY: &str = "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    const MISSING: &str = "HTTP/1.1 404 Missing\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    const FOUND: &str =
        "HTTP/1.1 200 Fine\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n";
    let lab = Lab::new();
    let netrc = lab.dir().join("netrc");
    fs::write(&netrc, "machine 127.0.0.1 login me password secret").unwrap();
    let fetch = |name: &str, port: u16| {
        let url = format!("http://127.0.0.1:{port}/file");
        lab.fetch_url(name, &url, b"hello\n")
    };
    let mut settings = lab.settings();
    settings.netrc_file = Some(netrc);
    let (port, server) = serve(vec![BUSY, FOUND]);
    let request = [BuildRequest::all(fetch("patient", port))];
    let report = lab.build_with(settings.clone(), &request, BuildMode::Normal);
    lab.expect_success(&report);
    let asked = server.join().unwrap();
    assert!(asked[1].starts_with("GET /file HTTP/1.1"));
    assert!(
        asked[1]
            .to_lowercase()
            .contains("authorization: basic bwu6c2vjcmv0")
    );

    let (port, server) = serve(vec![MISSING]);
    let request = [BuildRequest::all(fetch("missing", port))];
    let report = lab.build_with(settings.clone(), &request, BuildMode::Normal);
    assert!(
        report.results[0].message.contains(&format!(
            "> error: unable to download 'http://127.0.0.1:{port}/file': HTTP error 404"
        )),
        "{}",
        report.results[0].message
    );
    server.join().unwrap();

    // By its hash from a mirror, whatever the address is.
    let (port, server) = serve(vec![FOUND]);
    settings.hashed_mirrors = vec![format!("http://127.0.0.1:{port}")];
    let request = [BuildRequest::all(fetch("mirrored", 1))];
    let report = lab.build_with(settings, &request, BuildMode::Normal);
    lab.expect_success(&report);
    assert!(server.join().unwrap()[0].starts_with("GET /sha256/5891b5b522d5df086d0ff0b110fbd9d2"));
    lab.verify();
}

#[test]
fn hooks_before_builds_and_what_is_kept() {
    let Some(lab) = skip_unless_possible() else {
        return;
    };
    let shown = lab.dir().join("shown");
    fs::write(&shown, "shown").unwrap();
    let hook = lab.dir().join("hook");
    fs::write(
        &hook,
        format!(
            "#!/bin/sh\necho extra-sandbox-paths\necho /extra={}\n",
            shown.display()
        ),
    )
    .unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    let drv = lab.shell("prepared", &["out"], |drv| {
        drv.script("echo kept > file; cat /extra > $out; exit 1");
    });
    let mut settings = lab.settings();
    settings.pre_build_hook = hook.display().to_string();
    settings.keep_failed = true;
    let report = lab.build_with(
        settings,
        &[BuildRequest::all(drv.clone())],
        BuildMode::Normal,
    );
    assert_eq!(report.results[0].status, BuildStatus::PermanentFailure);
    let events = lab.events();
    let kept = events
        .split("note: keeping build directory '")
        .nth(1)
        .and_then(|rest| rest.split('\'').next())
        .unwrap();
    assert_eq!(
        fs::read_to_string(format!("{kept}/file")).unwrap(),
        "kept\n"
    );
    let out = lab.output(&drv, "out");
    assert_eq!(
        fs::read_to_string(lab.store.real_path(&out)).unwrap(),
        "shown"
    );
    assert!(!lab.store.is_valid(&out).unwrap());
}

#[test]
fn builds_begin_by_name() {
    let Some(lab) = skip_unless_possible() else {
        return;
    };
    // What is ready first is not what comes first: `a-last` needs `z`.
    let z = lab.shell("z", &["out"], |drv| drv.script("echo > $out"));
    let drvs = [
        lab.shell("c", &["out"], |drv| drv.script("echo > $out")),
        lab.shell("a-last", &["out"], |drv| {
            drv.input(&z, &["out"]);
            drv.script("echo > $out");
        }),
        lab.shell("b", &["out"], |drv| drv.script("echo > $out")),
    ];
    let mut settings = lab.settings();
    settings.max_jobs = 1;
    let report = lab.build_with(settings, &drvs.map(BuildRequest::all), BuildMode::Normal);
    lab.expect_success(&report);
    let events = lab.events();
    let begun: Vec<&str> = events
        .lines()
        .filter_map(|line| line.split_once("building '")?.1.split_once(".drv'"))
        .filter_map(|(path, _)| path.rsplit_once('/')?.1.split_once('-'))
        .map(|(_, name)| name)
        .filter(|name| *name != "probe")
        .collect();
    assert_eq!(begun, ["b", "c", "z", "a-last"], "{events}");
}

/// What scheduling costs: `cargo test --profile quick -p nivis-store --test build many -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn many_trivial_builds() {
    let Some(lab) = skip_unless_possible() else {
        return;
    };
    let count: usize = std::env::var("COUNT").map_or(1000, |n| n.parse().unwrap());
    let drvs: Vec<_> = (0..count)
        .map(|i| {
            lab.shell(&format!("trivial-{i}"), &["out"], |drv| {
                drv.script("echo > $out")
            })
        })
        .collect();
    let requests: Vec<_> = drvs.into_iter().map(BuildRequest::all).collect();
    for what in ["builds", "outputs that are there"] {
        let start = Instant::now();
        let report = lab.build(&requests);
        lab.expect_success(&report);
        let each = start.elapsed() / u32::try_from(count).unwrap();
        eprintln!("{count} {what}: {:?}, {each:?} each", start.elapsed());
    }
}

/// The graph of a whole system has thousands of paths.
#[test]
fn graphs_of_many_paths_are_exported() {
    let Some(lab) = skip_unless_possible() else {
        return;
    };
    let mut texts: Vec<nivis_store::StorePath> = Vec::new();
    for number in 0..400 {
        let references = texts.iter().rev().step_by(7).take(3).cloned().collect();
        let text = lab
            .store
            .add_text(&format!("t{number}"), b"text", &references);
        texts.push(text.unwrap());
    }
    let top = texts.last().unwrap();
    let drv = lab.shell("graph", &["out"], |drv| {
        drv.0.input_srcs.insert(top.clone());
        let graph = format!(r#"{{"graph":["{}"]}}"#, lab.print(top));
        let text = format!(r#"{{"exportReferencesGraph":{graph},"name":"graph"}}"#);
        drv.0.structured_attrs = Some(text.into());
        let out = nivis_store::hash_placeholder("out");
        drv.script(&format!("cp $NIX_ATTRS_JSON_FILE {out}"));
    });
    let report = lab.build(&[BuildRequest::all(drv)]);
    lab.expect_success(&report);
    let out = lab.store.real_path(&report.results[0].outputs["out"]);
    let json = nivis_store::json::Json::parse(fs::read(out).unwrap()).unwrap();
    let nivis_store::json::Json::Object(attrs) = json else {
        panic!("{json:?}");
    };
    let graph = attrs["graph"].to_text();
    let closure = lab.store.closure([top]).unwrap();
    assert_eq!(graph.matches("closureSize").count(), closure.len());
    for path in closure.iter().step_by(37) {
        let size: u64 = lab
            .store
            .closure([path])
            .unwrap()
            .iter()
            .map(|path| lab.store.query_path_info(path).unwrap().nar_size)
            .sum();
        let at = graph
            .find(&format!("\"path\":\"{}\"", lab.print(path)))
            .unwrap();
        let start = graph[..at].rfind('{').unwrap();
        let size = format!("\"closureSize\":{size},");
        assert!(graph[start..at].contains(&size), "{}", &graph[start..at]);
    }
}

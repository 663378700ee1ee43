use std::path::PathBuf;

use expect_test::{Expect, expect};

use ringcast_gateway::{Namespace, Targets};

use super::*;

fn variables(of: &[(&str, &str)]) -> Environment {
    Environment::of(
        of.iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
    )
}

#[derive(Serialize)]
struct Given {
    id: Option<&'static str>,
    limits_profile: Option<&'static str>,
    replicas: Option<u8>,
}

const NOT_GIVEN: Given = Given {
    id: None,
    limits_profile: None,
    replicas: None,
};

/// The file in a folder of its own, whose path is cut out of what is reported.
fn check(toml: &str, expected: &Expect) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ringcast.toml");
    std::fs::write(&path, toml).unwrap();
    let reported = load_file(&path).unwrap_err().to_string();
    expected.assert_eq(&reported.replace(&format!("{}/", folder.path().display()), ""));
}

#[test]
fn a_flag_wins_over_a_variable_and_a_variable_over_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ringcast.toml");
    std::fs::write(
        &path,
        "id = \"file\"\nstore = \"http://file:1\"\nlog = \"file\"\n[limits]\nprofile = \"default\"\n",
    )
    .unwrap();
    let environment = variables(&[
        ("RINGCAST_ID", "variable"),
        ("RINGCAST_STORE", "http://variable:1"),
        ("PATH", "/bin"),
    ]);
    let flags = Flags::none().and(&Given {
        id: Some("flag"),
        limits_profile: Some("bench"),
        ..NOT_GIVEN
    });
    let settings = load(Some(&path), environment, flags).unwrap();
    assert_eq!(settings.id.unwrap().as_str(), "flag");
    assert_eq!(settings.store.as_deref(), Some("http://variable:1"));
    assert_eq!(settings.log.as_deref(), Some("file"));
    assert_eq!(settings.limits.profile, Some(LimitsProfile::Bench));
}

#[test]
fn a_variable_is_read_as_what_the_setting_is() {
    let environment = variables(&[
        ("RINGCAST_ID", "17"),
        ("RINGCAST_SLOTS", "64"),
        ("RINGCAST_LIMITS_PROFILE", "bench"),
    ]);
    let settings = load(None, environment, Flags::none()).unwrap();
    assert_eq!(settings.id.unwrap().as_str(), "17");
    assert_eq!(settings.slots, Some(64));
    assert_eq!(settings.limits.profile, Some(LimitsProfile::Bench));
}

#[test]
fn an_empty_variable_is_not_set() {
    assert_eq!(
        load(None, variables(&[("RINGCAST_ADVERTISE", "")]), Flags::none()).unwrap(),
        Settings::default()
    );
}

#[test]
fn a_wrong_variable_is_named() {
    let wrong = |name, value| {
        load(None, variables(&[(name, value)]), Flags::none())
            .unwrap_err()
            .to_string()
    };
    expect!["RINGCAST_LISTEN: invalid socket address syntax"].assert_eq(&wrong("RINGCAST_LISTEN", "4000"));
    expect![[r#"RINGCAST_SLOTS: found string "many", must be u16"#]]
        .assert_eq(&wrong("RINGCAST_SLOTS", "many"));
    expect![[r#"RINGCAST_LIMITS_PROFILE: "fast" is none of default, bench"#]]
        .assert_eq(&wrong("RINGCAST_LIMITS_PROFILE", "fast"));
    expect!["RINGCAST_REPLICAS: 2 copies of a slot are not possible yet, only 1: replicas are not built"]
        .assert_eq(&wrong("RINGCAST_REPLICAS", "2"));
}

#[test]
fn a_wrong_flag_is_named() {
    let flags = Flags::none().and(&Given {
        replicas: Some(2),
        ..NOT_GIVEN
    });
    expect!["--replicas: 2 copies of a slot are not possible yet, only 1: replicas are not built"]
        .assert_eq(&load(None, Environment::none(), flags).unwrap_err().to_string());
}

#[test]
fn a_variable_of_somebody_else_is_no_error_and_a_slip_is_noticed() {
    let environment = variables(&[
        ("RINGCAST_PORT_80_TCP", "tcp://10.0.0.1:80"),
        ("RINGCAST_LISTN", "x"),
        ("RINGCAST_CONFIG", "f"),
    ]);
    assert_eq!(
        environment.slips(),
        [("RINGCAST_LISTN".to_owned(), "RINGCAST_LISTEN".to_owned())]
    );
    assert_eq!(
        load(None, environment, Flags::none()).unwrap(),
        Settings::default()
    );
}

#[test]
fn every_unknown_key_is_reported_with_its_line_and_the_nearest_known_one() {
    check(
        "listn = \"127.0.0.1:4000\"\nrpc-listen = \"127.0.0.1:1\"\nzzzzzzzzzz = 1\n\n[limits]\nprofil = \"bench\"\n\n[[channel]]\npattern = \"a:*\"\nclient-event = \"all\"\n[orign]\n",
        &expect![[r#"
            ringcast.toml:1: listn: no such setting; did you mean listen?
                   ringcast.toml:2: rpc-listen: no such setting; did you mean rpc_listen?
                   ringcast.toml:3: zzzzzzzzzz: no such setting
                   ringcast.toml:11: orign: no such setting; did you mean origin?
                   ringcast.toml:6: limits.profil: no such setting; did you mean profile?
                   ringcast.toml:10: channel.0.client-event: no such setting; did you mean client_events?"#]],
    );
}

#[test]
fn a_wrong_value_is_reported_with_its_line() {
    check(
        "# a\nlisten = 4000\n",
        &expect!["ringcast.toml:2: listen: found signed int `4000`, must be socket address"],
    );
    check(
        "\n[limits]\nprofile = \"fast\"\n",
        &expect![[r#"ringcast.toml:3: limits.profile: "fast" is none of default, bench"#]],
    );
    check(
        "[[channel]]\npattern = \"a:*\"\nclient_events = \"some\"\n",
        &expect![[r#"ringcast.toml:3: channel.0.client_events: "some" is none of all, others, refuse"#]],
    );
    check(
        "[[channel]]\nclient_events = \"all\"\n",
        &expect!["ringcast.toml:1: channel.0: pattern is missing"],
    );
    check(
        "[[channel]]\npattern = \"a:*\"\n[[channel]]\npattern = \"a*b\"\n",
        &expect![[
            r#"ringcast.toml:4: channel.1.pattern: channel pattern "a*b": '*' may only be its last character"#
        ]],
    );
    check(
        "[origin]\nallow = [\"//good.example\", \"good.example\"]\n",
        &expect![[
            r#"ringcast.toml:2: origin.allow.1: origin "good.example" is no scheme://host:port, //host or //*.host"#
        ]],
    );
    check(
        "[origin]\ncheck = \"any\"\nallow = [\"//good.example\"]\n",
        &expect![[
            r#"ringcast.toml:3: origin.allow: has no effect unless origin.check is "allow" or left out"#
        ]],
    );
    check(
        "history_memory = 256\n[history]\nlen = 100001\nids_age = -1\n",
        &expect!["ringcast.toml:4: history.ids_age: found signed int `-1`, must be u32"],
    );
    check(
        "history_memory = 256\n[history]\nlen = 100001\n[[channel]]\npattern = \"a:*\"\nhistory_age = 90000\n",
        &expect![[r#"
            ringcast.toml:3: history.len: must be at most 100000
                   ringcast.toml:6: channel.0.history_age: must be at most 86400
                   ringcast.toml:1: history_memory: must be at least 1048576 bytes"#]],
    );
    check(
        "limits = 3\n",
        &expect!["ringcast.toml:1: limits: found signed int `3`, must be a table"],
    );
    check(
        "advertise = \"host\"\n",
        &expect![[r#"ringcast.toml:1: advertise: "host" is no HOST:PORT"#]],
    );
    check(
        "id = \"a b\"\n",
        &expect![[
            r#"ringcast.toml:1: id: node id "a b", must be 1 to 63 characters of a-z, A-Z, 0-9, '-', '_', '.'"#
        ]],
    );
}

#[test]
fn a_wrong_value_of_a_channel_is_reported_with_its_line() {
    let channel = |settings: &str| format!("[[channel]]\npattern = \"a:*\"\n{settings}\n");
    check(
        &channel("slow_consumer = \"lates\""),
        &expect![[
            r#"ringcast.toml:3: channel.0.slow_consumer: "lates" is none of gap, latest, close; did you mean latest?"#
        ]],
    );
    check(
        &channel("targets = [\"all\", \"member\"]"),
        &expect![[
            r#"ringcast.toml:3: channel.0.targets.1: "member" is none of all, others, one, members; did you mean members?"#
        ]],
    );
    check(
        &channel("targets = []"),
        &expect![[
            r#"ringcast.toml:3: channel.0.targets: must name at least one; client_events = "refuse" lets clients publish nothing"#
        ]],
    );
    check(
        &channel("resume = \"yes\""),
        &expect![[r#"ringcast.toml:3: channel.0.resume: found string "yes", must be a boolean"#]],
    );
    check(
        &channel("resume = false\nslow_consumer = \"latest\""),
        &expect![
            "ringcast.toml:4: channel.0.slow_consumer: has no effect where resume is false: who reads too slowly is closed"
        ],
    );
    check(
        &channel("ephemeral = [\"typing\", \"phx_close\"]"),
        &expect![[
            r#"ringcast.toml:3: channel.0.ephemeral: "phx_close" is a name of the protocol's own, which nobody can publish"#
        ]],
    );
    check(
        &channel("ephemeral = [\"\"]"),
        &expect![[r#"ringcast.toml:3: channel.0.ephemeral: "" is no event, whose name has 1 to 255 bytes"#]],
    );
    check(
        &channel("ephemerals = [\"typing\"]"),
        &expect!["ringcast.toml:3: channel.0.ephemerals: no such setting; did you mean ephemeral?"],
    );
}

#[test]
fn a_channel_that_says_nothing_has_the_defaults_of_every_namespace() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ringcast.toml");
    let toml = "[[channel]]\npattern = \"a:*\"\n[[channel]]\npattern = \"b:*\"\nresume = false\n\
        targets = [\"one\", \"members\"]\nephemeral = [\"typing\"]\nclient_events = \"others\"\n\
        [[channel]]\npattern = \"c:*\"\nslow_consumer = \"latest\"\n";
    std::fs::write(&path, toml).unwrap();
    let settings = load_file(&path).unwrap();
    let namespaces: Vec<Namespace> = settings
        .channel
        .iter()
        .map(|channel| crate::roles::gateway::namespace(channel).unwrap())
        .collect();
    let pattern = |pattern| ringcast_gateway::channel_pattern(pattern).unwrap();
    assert_eq!(namespaces[0], Namespace::new(pattern("a:*")));
    let second = Namespace {
        client_events: ringcast_gateway::ClientEvents::Others,
        resume: false,
        targets: Targets {
            all: false,
            others: false,
            one: true,
            members: true,
        },
        ephemeral: ["typing".to_owned()].into(),
        ..Namespace::new(pattern("b:*"))
    };
    assert_eq!(namespaces[1], second);
    assert_eq!(
        namespaces[2].slow_consumer,
        ringcast_gateway::SlowConsumer::Latest
    );
}

#[test]
fn a_file_that_is_no_toml_is_reported_with_the_line() {
    check(
        "store = \"x\"\nlisten = \n",
        &expect![[r#"
        ringcast.toml:2: no TOML: invalid string
        expected `"`, `'`"#]],
    );
    check(
        "store = \"x\"\nstore = \"y\"\n",
        &expect!["ringcast.toml:2: no TOML: duplicate key `store` in document root"],
    );
}

#[test]
fn a_file_that_is_missing_is_named() {
    let missing = PathBuf::from("/nonexistent/ringcast.toml");
    let reported = load_file(&missing).unwrap_err().to_string();
    expect!["/nonexistent/ringcast.toml: read: No such file or directory (os error 2)"].assert_eq(&reported);
}

#[test]
fn every_setting_is_a_known_key_and_every_known_key_a_setting() {
    let settings = serde_json::to_value(Settings {
        channel: vec![Channel::of("a")],
        ..Settings::default()
    })
    .unwrap();
    let names = |value: &serde_json::Value| {
        let mut names: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
        names.sort();
        names
    };
    let known = |keys: &[&str]| {
        let mut keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        keys.sort();
        keys
    };
    assert_eq!(names(&settings), known(keys::TOP));
    assert_eq!(names(&settings["limits"]), known(keys::LIMITS));
    assert_eq!(names(&settings["history"]), known(keys::HISTORY));
    assert_eq!(names(&settings["origin"]), known(keys::ORIGIN));
    assert_eq!(names(&settings["channel"][0]), known(keys::CHANNEL));
}

#[test]
fn every_flag_of_a_role_is_a_setting() {
    let command = crate::args::command();
    for role in ["dev", "coordinator", "topic-server", "gateway"] {
        let role = command.find_subcommand(role).unwrap();
        for flag in role
            .get_arguments()
            .chain(command.get_arguments())
            .filter_map(|arg| arg.get_long())
        {
            let name = flag.replace('-', "_");
            let known = ["config", "help", "version"].contains(&flag)
                || environment::settings().any(|setting| setting == name);
            assert!(known, "--{flag} of {} is no setting", role.get_name());
        }
    }
}

#[test]
fn the_example_file_loads_and_sets_everything() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/ringcast.example.toml");
    let settings = load_file(&path).unwrap();
    let value = serde_json::to_value(&settings).unwrap();
    for (name, value) in value.as_object().unwrap() {
        assert!(!value.is_null(), "the example does not show {name}");
    }
    assert!(
        settings.limits.profile.is_some() && settings.origin.check.is_some() && settings.channel.len() >= 2
    );
}

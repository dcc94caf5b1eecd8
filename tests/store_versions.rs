//! Stores that earlier versions of the program left.

#[allow(dead_code, reason = "a study and an answer are needed of it")]
mod samples;

use std::path::Path;

use rusqlite::Connection;
use secateur::store::Store;

/// A store as the first version of this program left it: one study with an answer.
fn first_version(path: &Path) {
    let connection = Connection::open(path).unwrap();
    connection.execute_batch(include_str!("../src/store/schema.sql")).unwrap();
    connection.execute_batch("PRAGMA application_id = 0x53636174; PRAGMA user_version = 1").unwrap();
    let mut spec = serde_json::to_value(samples::spec()).unwrap();
    spec["evaluation"].as_object_mut().unwrap().shift_remove("disagreement").unwrap();
    connection
        .execute(
            "INSERT INTO studies (id, created_at, spec, model, environment, fingerprint)
             VALUES (1, 1800000000, ?1, ?2, ?3, '{}')",
            [
                spec.to_string(),
                serde_json::to_string(&samples::model()).unwrap(),
                serde_json::to_string(&samples::environment()).unwrap(),
            ],
        )
        .unwrap();
    connection
        .execute_batch(
            "INSERT INTO base VALUES (1, 'done');
             INSERT INTO questions VALUES (1, 'squad', 3, 'Who?', '[\"Me\"]');
             INSERT INTO answers VALUES (1, NULL, 'squad', 3, 'You', '[7,8]', 0.0, 0.5, 0.25);",
        )
        .unwrap();
}

#[test]
fn stores_of_earlier_versions_are_read_as_they_are_and_brought_up_to_date_by_a_writer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.db");
    first_version(&path);
    let version = || -> i64 {
        let connection = Connection::open(&path).unwrap();
        connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
    };
    let check = |store: &Store| {
        assert_eq!(store.study(1).unwrap().spec, samples::spec());
        let answers = store.answers(1, None).unwrap();
        assert_eq!((answers.len(), answers[0].tokens.as_slice(), &*answers[0].text), (1, &[7, 8][..], "You"));
        assert!(answers[0].pieces.is_empty() && answers[0].disagreement_bits.is_empty());
    };
    check(&Store::open_read_only(&path).unwrap());
    assert_eq!(version(), 1, "reading leaves it as it is");
    let store = Store::open(&path).unwrap();
    assert_eq!(version(), 2);
    check(&store);
    let answer = samples::answer("squad", 3, "Paris");
    store.put_answers(1, None, std::slice::from_ref(&answer)).unwrap();
    assert_eq!(store.answers(1, None).unwrap(), [answer]);
}

//! Tokens: when they are renewed, and by whom.
use super::scripted::{Scripted, answer, cut};
use super::*;
use backupengine_api::{Empty, op};
use std::time::Instant;

/// Refreshes give `new`; operations take it alone, and are noted in the keeper's log.
fn renewing(keeper: &Noted) -> Scripted {
    let keeper = keeper.clone();
    Scripted::start(move |seen| {
        if seen.op() == "token" {
            keeper.note("refresh");
            return yes(&session("new"));
        }
        let new = seen.header("authorization").ends_with("access-new");
        keeper.note(if new { "new" } else { "old" });
        if new { usage() } else { refused(Code::TokenExpired) }
    })
}

fn call(base: &str, keeper: &Noted) -> Result<(), TransferError> {
    account_at(base, keeper, Duration::from_secs(20)).call::<op::Usage>(&Empty {}).map(drop)
}

#[test]
fn a_refused_token_is_renewed_and_kept_before_it_is_used() {
    let keeper = Noted::good();
    let server = renewing(&keeper);
    call(&server.base, &keeper).unwrap();
    assert_eq!(keeper.log(), ["old", "lock", "refresh", "save", "unlock", "new"]);
    let sent: Value = serde_json::from_slice(&server.seen()[1].body).unwrap();
    assert_eq!(sent["refresh_token"], json!(format!("{SECRET}-refresh-old")));
}

#[test]
fn an_old_token_is_not_sent() {
    let keeper = Noted::with(Some(tokens("old", seconds() + 30)));
    let server = renewing(&keeper);
    call(&server.base, &keeper).unwrap();
    assert_eq!(keeper.log(), ["lock", "refresh", "save", "unlock", "new"]);
}

#[test]
fn many_threads_renew_once() {
    let keeper = Noted::good();
    let server = renewing(&keeper);
    let account = account_at(&server.base, &keeper, Duration::from_secs(20));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| account.call::<op::Usage>(&Empty {}).unwrap());
        }
    });
    assert_eq!((server.count("token"), keeper.log().iter().filter(|what| *what == "save").count()), (1, 1));
}

#[test]
fn what_another_process_renewed_is_taken() {
    let keeper = Noted::good();
    let server = renewing(&keeper);
    let (first, second) = (
        account_at(&server.base, &keeper, Duration::from_secs(20)),
        account_at(&server.base, &keeper, Duration::from_secs(20)),
    );
    assert!(first.access_token().is_ok() && second.access_token().is_ok());
    first.call::<op::Usage>(&Empty {}).unwrap();
    second.call::<op::Usage>(&Empty {}).unwrap();
    assert_eq!((server.count("token"), server.count("usage")), (1, 4));
}

#[test]
fn a_token_that_is_refused_when_new_is_not_renewed_again() {
    for code in [Code::TokenExpired, Code::BadToken] {
        let keeper = Noted::good();
        let server = Scripted::start(move |seen| match seen.op() {
            "token" => yes(&session("new")),
            _ => refused(code),
        });
        let error = call(&server.base, &keeper).unwrap_err();
        assert!(told(&error).contains(code.as_str()), "{}", told(&error));
        assert_eq!((server.count("token"), server.count("usage")), (1, 2));
    }
}

#[test]
fn a_token_that_cannot_be_kept_is_not_used() {
    let keeper = Noted { full: true, ..Noted::with(Some(tokens("old", 1))) };
    let server = renewing(&keeper);
    let error = call(&server.base, &keeper).unwrap_err();
    assert!(matches!(error, TransferError::Keeper(_)), "{}", told(&error));
    assert_eq!((server.count("token"), server.count("usage")), (1, 0));
}

#[test]
fn an_ended_login_is_said_to_be_one() {
    let none = Noted::with(None);
    let server = Scripted::start(|seen| match seen.op() {
        "token" => answer(400, &[], br#"{"code":"refresh_token_already_used","message":"m"}"#),
        _ => refused(Code::SessionEnded),
    });
    let ended = |keeper: &Noted| {
        let error = call(&server.base, keeper).unwrap_err();
        assert!(matches!(error, TransferError::NotLoggedIn { .. }), "{}", told(&error));
        server.seen().len()
    };
    assert_eq!(ended(&none), 0);
    assert_eq!(ended(&Noted::good()), 1);
    assert_eq!(ended(&Noted::with(Some(tokens("old", 1)))), 2);
}

#[test]
fn a_refresh_whose_answer_was_lost_is_repeated() {
    let keeper = Noted::with(Some(tokens("old", 1)));
    let server = Scripted::start(move |seen| match (seen.op(), seen.nth) {
        ("token", 0) => cut(),
        ("token", _) => yes(&session("new")),
        _ => usage(),
    });
    call(&server.base, &keeper).unwrap();
    let sent: Vec<_> = server.seen().iter().map(|seen| seen.body.clone()).collect();
    assert_eq!((sent.len(), sent[0] == sent[1]), (3, true));
}

#[test]
fn a_refresh_that_comes_too_often_waits_as_it_is_told() {
    let keeper = Noted::with(Some(tokens("old", 1)));
    let server = Scripted::start(move |seen| match (seen.op(), seen.nth) {
        ("token", 0) => answer(429, &[("retry-after", "1")], b"{}"),
        ("token", _) => yes(&session("new")),
        _ => usage(),
    });
    let begun = Instant::now();
    call(&server.base, &keeper).unwrap();
    assert_eq!((server.count("token"), begun.elapsed() >= Duration::from_secs(1)), (2, true));

    for long in ["600", "18446744073709551615"] {
        let keeper = Noted::with(Some(tokens("old", 1)));
        let server = Scripted::start(move |_| answer(429, &[("retry-after", long)], b"{}"));
        let begun = Instant::now();
        call(&server.base, &keeper).unwrap_err();
        assert_eq!(server.count("token"), 1);
        assert!(begun.elapsed() < Duration::from_secs(30), "nobody waits for ten minutes");
        // Nor where an operation is what comes too often.
        call(&server.base, &Noted::good()).unwrap_err();
    }
    // A login waits for nothing: it counts what is guessed.
    let server = Scripted::start(|_| answer(429, &[("retry-after", "1")], b"{}"));
    let identity = account(&server.base).identity();
    identity.password("a@example.org", &Secret(format!("{SECRET} word"))).unwrap_err();
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn a_login_that_may_have_been_done_is_not_repeated() {
    let server = Scripted::start(|_| cut());
    let identity = account(&server.base).identity();
    let error = identity.password("a@example.org", &Secret(format!("{SECRET} word"))).unwrap_err();
    assert!(matches!(error, TransferError::Unreachable { .. }), "{}", told(&error));
    assert_eq!(server.seen().len(), 1);
}

//! Histories: change, push, read back.

use crate::change::history;
use crate::world::{World, odd_tree};
use backupengine_testkit::build::TestVault;
use backupengine_testkit::oracle::{Content, Tree, sample::path};
use proptest::test_runner::{Config, RngSeed, TestRunner};

/// The same histories in every run.
fn config(cases: u32) -> Config {
    Config { cases, rng_seed: RngSeed::Fixed(0x0b5e_55ed), failure_persistence: None, ..Config::default() }
}

fn run(cases: u32, vault: fn() -> TestVault) {
    TestRunner::new(config(cases))
        .run(&history(), |rounds| {
            let mut world = World::new(vault());
            for round in &rounds {
                for change in round {
                    change.apply(&mut world.tree);
                }
                world.push();
                world.check_against_disk();
            }
            world.check_all();
            Ok(())
        })
        .unwrap();
}

#[test]
fn random_histories_are_read_back_from_memory() {
    run(10, TestVault::in_memory);
}

#[test]
fn random_histories_are_read_back_from_a_folder() {
    run(3, TestVault::in_folder);
}

#[test]
fn every_oddity_is_read_back() {
    let mut world = World::new(TestVault::in_folder());
    world.tree = odd_tree();
    world.push();
    // Once more without a change, and once with a few.
    world.push();
    world.tree.remove(&path("links/a first in order")).unwrap();
    world.tree.rename(&path("order"), &path("names/moved")).unwrap();
    world.tree.edit(&path("sizes/5000000"), |content| content.write_at(2_500_000, b"changed")).unwrap();
    world.push();
    world.check_against_disk();
    world.check_all();
}

#[test]
fn a_folder_becomes_a_file_and_a_file_a_folder() {
    let mut world = World::new(TestVault::in_memory());
    let (a, b) = (path("a"), path("b"));
    world.tree.mkdir(&a).unwrap();
    world.tree.create_file(&a.child(b"inside"), Content::dense("x")).unwrap();
    world.tree.create_file(&b, Content::dense("file")).unwrap();
    world.push();
    world.tree.remove(&a).unwrap();
    world.tree.remove(&b).unwrap();
    world.tree.create_file(&a, Content::dense("now a file")).unwrap();
    world.tree.mkdir(&b).unwrap();
    world.tree.create_file(&b.child(b"inside"), Content::dense("y")).unwrap();
    world.push();
    world.tree = Tree::new();
    world.push();
    world.check_all();
}

#[test]
fn a_folder_of_many_entries_is_listed_in_any_steps() {
    use backupengine_model::TreeReader;
    let mut world = World::new(TestVault::in_memory());
    let many = path("many");
    world.tree.mkdir(&many).unwrap();
    for n in 0..6_000 {
        let at = many.child(format!("{n:05}").as_bytes());
        if n % 40 == 0 { world.tree.mkdir(&at) } else { world.tree.create_file(&at, Content::dense("")) }
            .unwrap();
    }
    let session = world.push();
    world.check_all();
    let vault = world.vault.reader();
    let dir = vault.lookup(world.top(&vault, session), b"many").unwrap().unwrap().id;
    let whole = crate::world::list(&vault, dir);
    assert_eq!(whole.len(), 6_000);
    for (from, max) in [(0, 6_000), (1, 149), (149, 3), (150, 1), (151, 2_000), (5_998, 10), (6_000, 1)] {
        let page = TreeReader::list(&vault, dir, from, max).unwrap();
        let rest = &whole[from as usize..];
        assert_eq!(page.slots, rest[..max.min(rest.len())], "{from} {max}");
    }
}

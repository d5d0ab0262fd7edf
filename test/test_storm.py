"""A storm of half a minute over real processes: what was acknowledged is kept, and the replicas meet again."""

import json

from emporium.command import main

SEED = 6  # of whose plan the load balancer and the whole cluster die some time apart


def test_the_store_keeps_its_word_through_a_storm(capsys, monkeypatch, quick_path):
    # Nobody pulls a plug here. On a disk that others keep busy a sync can outlast the 0.5 s that a shard waits for its
    # Redis, and one such sync while a shard is dead is taken for what the dead shard costs the others.
    monkeypatch.setattr("emporium.storm.command.STORMS", quick_path)

    code = main(["storm", "--minutes", "0.5", "--seed", str(SEED)])

    said = capsys.readouterr()
    assert code == 0, said.out + said.err


def test_a_plan_is_printed_and_one_that_cannot_be_read_is_refused(capsys, tmp_path):
    assert main(["storm", "--minutes", "0.5", "--plan", "-"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert {"at_s", "for_s", "what", "target"} <= printed[0].keys()

    (tmp_path / "plan.json").write_text(json.dumps([*printed, {"what": "kill"}]))

    assert main(["storm", "--plan", str(tmp_path / "plan.json")]) == 2
    assert "cannot be read: Object missing required field `at_s`" in capsys.readouterr().err

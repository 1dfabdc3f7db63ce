"""Applications: declared state and nothing else, strict arguments, errors as results, writes undone."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import Annotated, Any, ClassVar

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replog import nesting
from replog.apps.bank import Bank
from replog.apps.counter import Counter
from replog.apps.kv import KeyValue
from replog.errors import OperationFailed
from replog.executor import Executor
from replog.nesting import DEPTH_MAX, ITEMS_MAX, _item, is_tangled
from replog.runtime import OUTCOMES_BYTES_MAX, TEXT_MAX, Runtime
from replog.statemachine import StateMachine, Table, command, decode_outcome, query
from replog.table import encode
from replog.types import decode_results
from tests.replog.helpers import SEED, Caller, request, value_of

quick = settings(deadline=None, max_examples=50)


class Item(msgspec.Struct):
    name: str
    tags: list[str] = []


class Zoo(StateMachine):
    """Every kind of state, and every kind of misbehaviour."""

    version = "7"
    LIMIT: ClassVar[int] = 3
    items: Table[str, Item]
    count: int = 0
    log: list[str] = []  # noqa: RUF012 - every machine gets its own
    best: Item | None = None

    @command
    def add(self, name: str, tags: list[str] = []) -> int:  # noqa: B006 - a default is decoded anew for each call
        self.items[name] = Item(name, tags)
        self.count += 1
        self.log.append(name)
        self.best = self.items[name]
        return self.count

    @command
    def spoil(self, name: str, how: str) -> Any:
        """Write everywhere, then fail."""
        self.add(name)
        self.items.pop("first", None)
        self.items["first"] = Item("spoilt")
        if self.best is not None:
            self.best.tags.append("spoilt")
        self.log.clear()
        return getattr(self, "_" + how)()

    def _value_error(self) -> None:
        raise ValueError("no")

    def _address(self) -> None:
        raise ValueError(f"{object()!r}")

    def _long(self) -> None:
        raise ValueError("x" * 10_000)

    def _surrogate(self) -> None:
        raise ValueError("\ud800")

    def _recursion(self) -> None:
        self._recursion()

    def _exit(self) -> None:
        sys.exit(1)

    def _memory(self) -> None:
        raise MemoryError("17 bytes short")

    def _mute(self) -> None:
        class Mute(Exception):
            def __str__(self) -> str:
                raise RuntimeError("cannot say")

        raise Mute

    def _unencodable(self) -> object:
        return object()

    def _large(self) -> str:
        return "x" * OUTCOMES_BYTES_MAX

    def _huge_int(self) -> int:
        return 2**70

    def _wrong_log(self) -> None:
        self.log.append(5)  # type: ignore[arg-type]

    def _wrong_count(self) -> None:
        self.count = "five"  # type: ignore[assignment]

    def _undeclared(self) -> None:
        self.extra = 1  # type: ignore[attr-defined]

    def _replace_table(self) -> None:
        self.items = {}  # type: ignore[assignment]

    def _surrogate_key(self) -> None:
        self.items["\ud800"] = Item("x")

    @query
    def peek(self, name: str) -> list[str] | None:
        item = self.items.get(name)
        return None if item is None else item.tags

    @query
    def sneak(self, where: str) -> None:
        """A query that writes."""
        if where == "table":
            self.items["sneaked"] = Item("x")
        elif where == "field":
            self.count = 99
        else:
            self.log.append("sneaked")

    @query
    def agreed(self) -> int:
        return self.context.now

    @command
    def dice(self, number: int) -> list[int]:
        return [self.context.random.randint(1, 6) for _ in range(number)]

    @command
    def when(self) -> int:
        return self.context.now

    @command
    def positive(self, amount: Annotated[int, msgspec.Meta(gt=0)]) -> int:
        return amount


FAILURES = {
    "value_error": "ValueError",
    "address": "ValueError",
    "long": "ValueError",
    "surrogate": "ValueError",
    "recursion": "RecursionError",
    "exit": "SystemExit",
    "memory": "MemoryError",
    "mute": "Mute",
    "unencodable": "TypeError",
    "large": "ResultTooLarge",
    "huge_int": "OverflowError",
    "wrong_log": "TypeError",
    "wrong_count": "TypeError",
    "undeclared": "AttributeError",
    "replace_table": "AttributeError",
    "surrogate_key": "UnicodeEncodeError",
    "no_such_thing": "AttributeError",
}


class Whole(StateMachine):
    """An application with a form of its own."""

    def __init__(self) -> None:
        self.seen: dict[str, int] = {}

    @command
    def note(self, name: str) -> int:
        self.seen[name] = self.seen.get(name, 0) + 1
        if name == "bad":
            raise ValueError(name)
        return self.seen[name]

    @query
    def cheat(self) -> int:
        self.seen["cheat"] = 1
        return 1

    @query
    def many(self) -> int:
        return len(self.seen)

    def snapshot(self) -> bytes:
        return encode(self.seen)

    def restore(self, data: bytes) -> None:
        self.seen = msgspec.msgpack.decode(data, type=dict[str, int])


class TestOutsideReplication:
    def test_it_is_an_ordinary_object(self) -> None:
        counter = Counter()
        assert counter.add(5) == 5
        assert counter.add() == 6
        assert counter.value() == 6
        assert Counter().value() == 0

    def test_its_errors_are_raised(self) -> None:
        bank = Bank()
        bank.deposit("ann", 5)
        bank.deposit("bob", 1)
        assert bank.transfer("ann", "bob", 2) == 3
        with pytest.raises(Exception, match="ann has 3, not 9"):
            bank.withdraw("ann", 9)
        assert bank.total() == bank.balance("ann") + bank.balance("bob") == 6

    def test_defaults_are_not_shared(self) -> None:
        one, other = Zoo(), Zoo()
        one.add("a")
        assert (other.log, len(other.items), other.best) == ([], 0, None)

    def test_an_undeclared_attribute_is_refused(self) -> None:
        zoo = Zoo()
        with pytest.raises(AttributeError, match=r"Zoo\.extra is not declared as state"):
            zoo.extra = 1  # type: ignore[attr-defined]
        with pytest.raises(AttributeError, match="is a Table: change its entries"):
            zoo.items = {}  # type: ignore[assignment]
        with pytest.raises(AttributeError, match="cannot be deleted"):
            del zoo.count
        with pytest.raises(TypeError, match="expected int, got str"):
            zoo.count = "1"  # type: ignore[assignment]


class TestDefinition:
    def test_an_attribute_without_declaration_is_an_error(self) -> None:
        with pytest.raises(TypeError, match=r"Cache\.cache: an attribute is declared state"):

            class Cache(StateMachine):
                cache = {}  # noqa: RUF012

    def test_a_type_that_is_no_state_is_an_error(self) -> None:
        with pytest.raises(TypeError, match=r"Rate\.rate: float is no state"):

            class Rate(StateMachine):
                rate: float = 0.5

        with pytest.raises(TypeError, match=r"Rates\.rates: float is no state"):

            class Rates(StateMachine):
                rates: Table[str, float]

        with pytest.raises(TypeError, match=r"Lock\.lock: object is no state"):

            class Lock(StateMachine):
                lock: object = None

    def test_a_field_without_default_is_an_error(self) -> None:
        with pytest.raises(TypeError, match=r"Bare\.number: a field needs a default"):

            class Bare(StateMachine):
                number: int

    def test_a_wrong_default_is_an_error(self) -> None:
        with pytest.raises(TypeError, match=r"Wrong\.number: expected int, got str"):

            class Wrong(StateMachine):
                number: int = "1"  # type: ignore[assignment]

    def test_a_table_has_no_default(self) -> None:
        with pytest.raises(TypeError, match="a Table has no default"):

            class Given(StateMachine):
                table: Table[str, int] = Table(str, int)

    def test_a_hidden_name_is_an_error(self) -> None:
        with pytest.raises(TypeError, match="begins with a letter"):

            class Hidden(StateMachine):
                _count: int = 0

    def test_half_a_form_of_its_own_is_an_error(self) -> None:
        with pytest.raises(TypeError, match="both or neither"):

            class Half(StateMachine):
                def snapshot(self) -> bytes:
                    return b""

    @pytest.mark.parametrize("source", ["async def m(self) -> None: ...", "def m(self):\n  yield 1"])
    def test_a_method_is_a_plain_function(self, source: str) -> None:
        space: dict[str, Any] = {}
        exec(source, space)
        with pytest.raises(TypeError, match=r"Odd\.m: a command is a plain function"):
            type("Odd", (StateMachine,), {"m": command(space["m"])})

    @pytest.mark.parametrize(
        ("parameters", "rule"),
        [("x", "x: has no type"), ("*x: int", "no \\*"), ("**x: int", "no \\*"), ("*, x: int", "keyword-only")],
    )
    def test_arguments_have_types_and_places(self, parameters: str, rule: str) -> None:
        space: dict[str, Any] = {}
        exec(f"def m(self, {parameters}): ...", space)
        with pytest.raises(TypeError, match=rule):
            type("Odd", (StateMachine,), {"m": query(space["m"])})

    def test_names_and_versions(self) -> None:
        assert (Zoo.name, Zoo.version) == ("zoo", "7")
        assert (KeyValue.name, KeyValue.version) == ("kv", "1")

    def test_it_can_be_inherited(self) -> None:
        class More(Bank):
            opened: int = 0

            @command
            def open(self, account: str) -> int:
                self.opened += 1
                return self.deposit(account, 1)

        call = Caller(More())
        assert [call("open", "ann"), call("open", "bob"), call("transfer", "ann", "bob", 1), call("total")] == [
            1,
            1,
            0,
            2,
        ]

    def test_it_describes_itself(self) -> None:
        methods = {method.name: method for method in Zoo.describe()}
        assert list(methods) == sorted(methods)
        assert methods["add"].signature == "add(name: str, tags: list[str] = []) -> int"
        assert (methods["peek"].kind, methods["add"].kind) == ("query", "command")
        assert methods["spoil"].doc == "Write everywhere, then fail."
        assert KeyValue.describe()[1].signature == "cas(key: str, expected: str | None, value: str) -> bool"


class TestOperations:
    def test_an_operation_is_a_list_of_method_and_arguments(self) -> None:
        assert msgspec.msgpack.decode(KeyValue.operation("put", "k", "v")) == ["put", "k", "v"]

    @pytest.mark.parametrize(
        ("method", "args", "rule"),
        [
            ("put", ("k",), r"put\(key: str, value: str\) -> None does not take"),
            ("put", ("k", 1), "does not take"),
            ("put", ("k", "v", "w"), "does not take"),
            ("drop", (), "kv has no method 'drop'; it has append, cas, delete, get, put, scan"),
        ],
    )
    def test_a_wrong_call_is_refused_at_once(self, method: str, args: tuple[Any, ...], rule: str) -> None:
        with pytest.raises(TypeError, match=rule):
            KeyValue.operation(method, *args)

    @pytest.mark.parametrize(
        ("operation", "error"),
        [
            (b"", "MalformedOperation"),
            (b"\xc1", "MalformedOperation"),
            (b"\x90", "MalformedOperation"),
            (b"\x80", "MalformedOperation"),
            (encode([1, 2]), "MalformedOperation"),
            (encode("put"), "MalformedOperation"),
            (b"\x91\xa2\xff\xfe", "MalformedOperation"),
            (b"\x91" * 50_000, "MalformedOperation"),
            (encode(["add", "a"]) + b"\x00", "MalformedOperation"),
            (encode(["grow", 1]), "UnknownMethod"),
            (encode(["_value_error"]), "UnknownMethod"),
            (encode(["snapshot"]), "UnknownMethod"),
            (encode(["add"]), "WrongArguments"),
            (encode(["add", 5]), "WrongArguments"),
            (encode(["add", "a", "b"]), "WrongArguments"),
            (encode(["add", "a", [], 1]), "WrongArguments"),
            (encode(["positive", 0]), "WrongArguments"),
            (encode(["positive", True]), "WrongArguments"),
            (encode(["positive", "1"]), "WrongArguments"),
            (encode(["positive", 1.0]), "WrongArguments"),
        ],
    )
    def test_what_cannot_be_called_is_an_error_and_nothing_more(self, operation: bytes, error: str) -> None:
        call = Caller(Zoo())
        before = call.state()
        assert call.raw(operation) == error
        assert call.state() == before

    @quick
    @given(st.binary(max_size=40))
    def test_any_bytes_have_an_outcome(self, operation: bytes) -> None:
        outcome = Caller(Zoo()).outcome(operation)
        assert outcome == Caller(Zoo()).outcome(operation)
        value_of(outcome)

    def test_an_application_without_methods_knows_none(self) -> None:
        call = Caller(type("Empty", (StateMachine,), {})())
        assert call.raw(encode(["x"])) == "UnknownMethod"

    def test_outcomes_decode(self) -> None:
        assert decode_outcome(encode((0, {"a": [1]}))) == {"a": [1]}
        with pytest.raises(OperationFailed, match="ValueError: no") as caught:
            decode_outcome(encode((1, "ValueError", "no")))
        assert (caught.value.type, caught.value.text) == ("ValueError", "no")

    @quick
    @given(st.binary(max_size=20) | st.recursive(st.integers(-5, 5), st.lists, max_leaves=4).map(encode))
    def test_what_is_no_outcome_says_so(self, data: bytes) -> None:
        try:
            decode_outcome(data)
        except (ValueError, OperationFailed):
            return
        assert data[:2] == b"\x92\x00" or msgspec.msgpack.decode(data)[0] == 0


class TestFailures:
    @pytest.mark.parametrize("how", FAILURES)
    def test_a_failed_command_leaves_no_trace(self, how: str) -> None:
        call = Caller(Zoo())
        call("add", "first", ["a"])
        call("add", "second")
        before, machine = call.state(), call.machine
        assert isinstance(machine, Zoo)
        assert call("spoil", "third", how) == FAILURES[how]
        assert call.state() == before
        assert (machine.count, machine.log) == (2, ["first", "second"])
        assert machine.best == Item("second")
        assert machine.items["first"] == Item("first", ["a"])
        assert [name for name, _ in machine.items.scan("")] == ["first", "second"]
        assert call("add", "third") == 3
        call.executor.check_invariants()

    @pytest.mark.parametrize("how", [*FAILURES, "no_such_thing"])
    def test_every_replica_says_the_same(self, how: str) -> None:
        operation = Zoo.operation("spoil", "x", how)
        outcomes = {Caller(Zoo()).outcome(operation) for _ in range(3)}
        assert len(outcomes) == 1
        assert len(outcomes.pop()) < TEXT_MAX + 100

    def test_texts_hold_no_addresses(self) -> None:
        with pytest.raises(OperationFailed, match=r"<object object at 0x\.\.\.>"):
            decode_outcome(Caller(Zoo()).outcome(Zoo.operation("spoil", "x", "address")))

    @pytest.mark.parametrize("where", ["table", "field", "list"])
    def test_a_query_that_writes_is_an_error_and_undone(self, where: str) -> None:
        call = Caller(Zoo())
        call("add", "a")
        before = call.state()
        assert call("sneak", where) == "QueryWrote"
        assert call.ask("sneak", where) == "QueryWrote"
        assert call.state() == before
        assert isinstance(call.machine, Zoo)
        assert call.machine.log == ["a"]

    @pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit, GeneratorExit, BaseException])
    def test_whatever_is_raised_is_a_result(self, raised: type[BaseException]) -> None:
        """X15: the application chose it, so every replica gets it."""

        class Rude(StateMachine):
            count: int = 0

            @command
            def go(self) -> None:
                self.count = 5
                raise raised

        call = Caller(Rude())
        assert [call("go"), call("go")] == [raised.__name__] * 2
        assert call.machine.count == 0  # type: ignore[attr-defined]

    def test_a_real_interrupt_waits_for_the_end_of_the_operations(self) -> None:
        """Pressed in the midst of an operation it is not taken for its result: the operation ends, then the program."""

        class Slow(StateMachine):
            steps: int = 0

            @command
            def go(self) -> None:
                self.steps = 1
                signal.raise_signal(signal.SIGINT)
                self.steps = 2

        call = Caller(Slow())
        with pytest.raises(KeyboardInterrupt):
            call("go")
        assert call.machine.steps == 2  # type: ignore[attr-defined]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def test_a_second_interrupt_ends_an_operation_that_does_not_end(self) -> None:
        class Endless(StateMachine):
            @command
            def go(self) -> None:
                while True:
                    signal.raise_signal(signal.SIGINT)

        with pytest.raises(KeyboardInterrupt):
            Caller(Endless())("go")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def test_the_outcomes_of_a_request_are_bounded(self) -> None:
        store = Executor(KeyValue())
        big = "v" * (OUTCOMES_BYTES_MAX // 4)
        store.apply(1, [request(1, KeyValue.operation("put", "k", big))], 0, SEED)
        (result,) = store.apply(2, [request(2, *[KeyValue.operation("append", "k", "x")] * 10)], 0, SEED)
        assert result.results is not None
        values = [value_of(outcome) for outcome in decode_results(result.results).outcomes]
        assert values[3:] == ["ResultTooLarge"] * 7
        assert len(result.results) < 2 * OUTCOMES_BYTES_MAX
        (read,) = store.query([request(3, KeyValue.operation("get", "k"))])
        assert value_of(decode_results(read).outcomes[0]) == big + "xxx"

    def test_a_result_is_not_an_alias_of_state(self) -> None:
        call = Caller(Zoo())
        call("add", "a", ["t"])
        assert call("peek", "a") == ["t"]
        call.machine.items["a"].tags.append("lost")  # type: ignore[attr-defined]
        assert call("peek", "a") == ["t"]


class TestContext:
    def test_random_numbers_are_agreed_and_differ_by_place(self) -> None:
        one, other = ([call("dice", 20) for _ in range(3)] for call in (Caller(Zoo()), Caller(Zoo())))
        assert one == other
        assert one[0] != one[1] != one[2]

    def test_operations_of_one_request_draw_their_own(self) -> None:
        (result,) = Executor(Zoo()).apply(1, [request(1, *[Zoo.operation("dice", 20)] * 2)], 0, SEED)
        assert result.results is not None
        first, second = decode_results(result.results).outcomes
        assert first != second

    def test_the_numbers_never_change(self) -> None:
        """Replicas on any Python version draw these."""
        assert Caller(Zoo())("dice", 8) == [2, 2, 3, 5, 1, 2, 6, 4]

    def test_another_seed_gives_others(self) -> None:
        """A batch's commands see what the batch before it has left, and no null request changes that."""
        one, other = Executor(Zoo()), Executor(Zoo())
        rolls = [request(timestamp, Zoo.operation("dice", 30)) for timestamp in (1, 2)]
        first = [executor.apply(1, rolls[:1], 0, seed) for executor, seed in ((one, b"a"), (other, b"b"))]
        assert first[0] == first[1], "its own seed is for the next"
        for executor in (one, other):
            executor.apply(2, [], 0, b"null")
        assert one.digest() != other.digest()
        assert one.apply(3, rolls[1:], 0, b"") != other.apply(3, rolls[1:], 0, b"")

    def test_time_never_stands_still_or_goes_back(self) -> None:
        call = Caller(Zoo())
        operation = Zoo.operation("when")
        assert [call.raw(operation, time) for time in (100, 50, 100, 200, 0)] == [100, 101, 102, 200, 201]
        assert call.ask("agreed") == 201


class TestAFormOfItsOwn:
    def test_it_runs_and_is_undone(self) -> None:
        call = Caller(Whole())
        assert [call("note", "a"), call("note", "a"), call("note", "bad"), call("many")] == [1, 2, "ValueError", 1]
        before = call.state()
        assert call("cheat") == "QueryWrote"
        assert call.state() == before
        assert call.ask("many") == 1

    def test_it_is_saved_and_loaded(self) -> None:
        call = Caller(Whole())
        for number in range(30_000 // 10):
            call("note", f"{number:06}" * 10)
        executor = call.executor
        digest = executor.checkpoint(executor.index)
        copy = Executor(Whole())
        copy.load(executor.index, digest, executor.snapshot(executor.index).parts())
        assert copy.digest() == digest
        (results,) = copy.query([request(1, Whole.operation("many"))])
        assert value_of(decode_results(results).outcomes[0]) == 3_000

    def test_a_snapshot_that_is_not_bytes_is_an_error(self) -> None:
        class Texts(Whole):
            def snapshot(self) -> bytes:
                return "text" if self.seen else b"\x80"  # type: ignore[return-value]

        call = Caller(Texts())
        assert call("note", "a") == "TypeError"
        assert call("many") == 0


SHOW = """
from tests.replog.helpers import Caller
from tests.replog.test_statemachine import Zoo
call = Caller(Zoo())
for name in ("b", "a", "c"):
    call("add", name, ["x", "y"])
call("spoil", "x", "value_error"), call("dice", 5)
print(call.executor.digest().hex())
"""


def test_hash_seeds_of_python_change_nothing() -> None:
    digests = set()
    for seed in ("0", "1", "77"):
        environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": ".", "PATH": ""}
        done = subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True, env=environment, check=True)
        digests.add(done.stdout)
    assert len(digests) == 1
    assert len(digests.pop().strip()) == 64


# ------------------------------------------------------------------------------------------------------------- nesting


def beneath(frames: int, operation: bytes) -> bytes:
    """Its outcome where the stack is that much deeper."""
    if frames:
        return beneath(frames - 1, operation)
    return Runtime(KeyValue()).run([operation], False, (1,))[0]


@pytest.mark.parametrize("nested", [DEPTH_MAX - 1, DEPTH_MAX, 400, 800, 960, 100_000])
def test_how_deep_the_stack_is_changes_no_outcome(nested: int) -> None:
    """Replicas come to one operation on different ways."""
    operation = b"\x93\xa3put" + b"\x91" * nested + b"\xc0" + b"\xa1v"
    outcomes = {beneath(frames, operation) for frames in (0, 50, 100, 200, 400)}
    assert len(outcomes) == 1
    assert (b"WrongArguments" in outcomes.pop()) is (nested < DEPTH_MAX)


def depth_of(value: Any) -> int:
    """Lists and maps that a leaf lies in; an empty one is a leaf."""
    if isinstance(value, dict):
        inner = [*value, *value.values()]
    else:
        inner = list(value) if isinstance(value, (list, tuple)) else []
    return 1 + max(map(depth_of, inner)) if inner else 0


leaves = st.one_of(st.none(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.binary(max_size=300), st.text())
values = st.recursive(leaves, lambda of: st.one_of(st.lists(of), st.dictionaries(st.text(), of)))


@quick
@given(values, st.integers(0, DEPTH_MAX + 5), st.binary(min_size=DEPTH_MAX, max_size=70_000))
def test_depth_is_known_by_bytes_alone(value: Any, more: int, padding: bytes) -> None:
    """Whatever else there is, and however much of it looks like lists."""
    nested: Any = [value, 1]
    for _ in range(more):
        nested = [padding[:9], nested, {"k": 1}]
    whole = [padding, b"\x91" * 100, nested, [[]] * 70, "x" * 70_000]
    assert is_tangled(msgspec.msgpack.encode(whole)) is (depth_of(whole) > DEPTH_MAX)


@pytest.mark.parametrize("items", [ITEMS_MAX, ITEMS_MAX + 1, 1_000_000])
def test_an_operation_of_too_many_items_costs_no_more(items: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list itself is one of them."""
    looked = 0

    def counts(data: bytes, place: int) -> tuple[int, int]:
        nonlocal looked
        looked += 1
        return _item(data, place)

    monkeypatch.setattr(nesting, "_item", counts)
    operation = msgspec.msgpack.encode([[]] * (items - 1))
    assert is_tangled(operation) is (items > ITEMS_MAX)
    assert looked == min(items, ITEMS_MAX)
    assert b"MalformedOperation" in beneath(0, operation)


@quick
@given(st.binary(max_size=400))
def test_depth_of_any_bytes_ends(data: bytes) -> None:
    is_tangled(b"\x91" * 60 + data)
    is_tangled(b"\xdd\xff\xff\xff\xff" * 60 + data)

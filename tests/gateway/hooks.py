"""What schemathesis is told beside the contracts (SCHEMATHESIS_HOOKS=hooks).

A contract has rules that its schemas have no words for: that a name is the path's, that a cursor is one of this list. So
that requests that should fit do fit, and have to be accepted, they are made to keep these rules (`Fitting`, `fit_rest`);
one in sixteen is sent as it was made, so that the refusals are seen, too. A refusal is no finding where one of RULES says
so: each looks at what was asked and at what the refusal names. The run ends with how many findings each has left out;
one that leaves out more than its share is a finding, and so is a run of which too little was accepted.
"""

import collections
import copy
import dataclasses
import re
import urllib.parse
import zlib

import graphql
import schemathesis
from hypothesis import strategies as st
from schemathesis.core.parameters import ParameterLocation
from schemathesis.graphql import nodes

# One of so many requests is not made to fit.
WILD = 16


def is_wild(*parts):
    """Whether a request is sent as it was made: by what is in it, so that the same run makes the same."""
    return zlib.crc32(repr(parts).encode()) % WILD == 0


def is_graphql(case):
    return case.operation.schema.specification.kind.name == "GRAPHQL"


# --- What fits: GraphQL ------------------------------------------------------------------------------

ORGANIZATIONS = st.sampled_from(["labring", "fuzz", "fuzz-2"])
REPOSITORIES = st.builds("{}/{}".format, ORGANIZATIONS, st.sampled_from(["nginx", "kubernetes", "app"]))
IMAGES = st.builds("{}:{}".format, REPOSITORIES, st.sampled_from(["v1.25.0", "1.0", "2_0"]))

for name, strategy in {
    "RepositoryName": REPOSITORIES,
    "ImageName": IMAGES,
    "Revision": st.integers(0, 2**40).map(str),
    "URL": st.just("https://example.com/icon.png"),
}.items():
    schemathesis.graphql.scalar(name, strategy.map(nodes.String))
# The one that is written is a size.
schemathesis.graphql.scalar("Int53", st.integers(0, 2**53 - 1).map(nodes.Int))


# Arguments that are texts to the schema, by their fields; and what there can be.
NAMED = {"createOrganization": "name", "deleteOrganization": "name", "organization": "name", "updateManagers": "organization"}
PAYLOADS = re.compile("(create|delete|update)(DataPack|Image|Managers|Organization|Repository)|applyImages")
REFUSALS = graphql.parse("{ userErrors { code path message } results { userErrors { code path message } } }").definitions[0]


def named_one_of(value, names):
    """One of these names, for a text."""
    return nodes.String(names[zlib.crc32(value.value.encode()) % len(names)]) if isinstance(value, graphql.StringValueNode) else value


class Fitting(graphql.Visitor):
    """Makes of what is asked for what there can be: lists without cursors, which can't be guessed, with one of `first` and
    `last`, with pages of 0 to 5, in an order that they have; names and times that are some. And has each write tell why
    it was refused."""

    def enter_field(self, node, *_):
        field, named = node.name.value, {argument.name.value: argument for argument in node.arguments or ()}
        for name in ("after", "before"):
            named.pop(name, None)
        sizes = [named.pop(name) for name in ("first", "last") if name in named]
        if sizes:
            length = int(getattr(sizes[0].value, "value", "20"))
            named[sizes[0].name.value] = graphql.ArgumentNode(name=sizes[0].name, value=nodes.Int(length % 6))
        if "orderBy" in named and "RELEVANCE" in graphql.print_ast(named["orderBy"]):
            del named["orderBy"]
        if NAMED.get(field) in named:
            argument = named[NAMED[field]]
            named[NAMED[field]] = dataclasses.replace(argument, value=named_one_of(argument.value, ["fuzz", "fuzz-2", "fuzz-3"]))
        selected = node.selection_set
        if PAYLOADS.fullmatch(field):
            told = REFUSALS.selection_set.selections[1 if field == "applyImages" else 0]
            selected = graphql.SelectionSetNode(selections=(told,))
        return dataclasses.replace(node, arguments=tuple(named.values()), selection_set=selected)

    def enter_object_field(self, node, *_):
        value, name = node.value, node.name.value
        if name == "expireTime":
            value = named_one_of(value, ["1s", "1h30m", "720h"])
        if name == "actions" and isinstance(value, graphql.ListValueNode):
            kept = {str(graphql.value_from_ast_untyped(action).get("key")): action for action in value.values}
            value = dataclasses.replace(value, values=tuple(kept.values()))
        return dataclasses.replace(node, value=value)

    def enter_argument(self, node, *_):
        names = ["alice", "user:bob@example.com"]
        if node.name.value in ("add", "remove") and isinstance(node.value, graphql.ListValueNode):
            listed = tuple(named_one_of(value, names) for value in node.value.values)
            return dataclasses.replace(node, value=dataclasses.replace(node.value, values=listed))
        if node.name.value == "images" and isinstance(node.value, graphql.ListValueNode):
            kept = {graphql.value_from_ast_untyped(image)["name"]: image for image in node.value.values}
            return dataclasses.replace(node, value=dataclasses.replace(node.value, values=tuple(kept.values())))
        return None


# --- What fits: REST ---------------------------------------------------------------------------------


def path_name(case):
    """The full name that a path names."""
    named = {part: urllib.parse.unquote(str(value)) for part, value in (case.path_parameters or {}).items()}
    whole = "/".join(named[part] for part in ("org", "repo") if part in named)
    return f"{whole}:{named['tag']}" if "tag" in named else whole


def is_relevance_of_nothing(case):
    query = case.query or {}
    return query.get("sort") == "relevance" and not str(query.get("q") or "").strip()


def doubled_keys(body):
    """The places of actions whose key an earlier one has."""
    actions = body.get("actions") or [] if isinstance(body, dict) else []
    keys = [action.get("key") for action in actions]
    return [at for at, key in enumerate(keys) if key in keys[:at]]


UNITS = {"ns": 1e-9, "us": 1e-6, "\u00b5s": 1e-6, "\u03bcs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}


def is_out_of_time(case):
    """Whether a pack is to be kept for less than 1 s or more than 720 h."""
    parts = re.findall(r"([0-9.]+)([^0-9.+]+)", case.body["expireTime"])
    return not 1 <= sum(float(number) * UNITS[unit] for number, unit in parts) <= 720 * 3600


def fit_rest(case):
    """Makes a request keep what a JSON Schema has no words for. What it has may be another request's, too."""
    if case.headers and case.method != "GET":
        # What is there has a tag that can't be guessed.
        kept = {name: value for name, value in case.headers.items() if name not in ("If-Match", "If-None-Match")}
        if len(kept) < len(case.headers):
            case.headers = kept
    if case.query:
        kept = {name: value for name, value in case.query.items() if name != "cursor"}
        if is_relevance_of_nothing(case):
            del kept["sort"]
        if len(kept) < len(case.query):
            case.query = kept
    body = copy.deepcopy(case.body)
    if case.path == "/images" and isinstance(body, list):
        # Each once.
        body = list({item["name"]: item for item in body}.values())
    for one in body if isinstance(body, list) else [body]:
        if not isinstance(one, dict):
            continue
        if isinstance(one.get("name"), str) and case.path_parameters:
            one["name"] = path_name(case)
        for at in reversed(doubled_keys(one)):
            del one["actions"][at]
        if isinstance(one.get("expireTime"), str):
            # From 1 s to 720 h.
            one["expireTime"] = f"{zlib.crc32(one['expireTime'].encode()) % 2_592_000 + 1}s"
    if body != case.body:
        case.body = body


# The requests that are sent as they were made.
WILD_ONES = set()


@schemathesis.hook
def map_case(context, case):
    if not case.meta.generation.mode.is_positive:
        return case
    headers = {name: value for name, value in (case.headers or {}).items() if name != "Authorization"}
    if is_wild(case.method, case.path, case.path_parameters, case.query, headers, case.body):
        WILD_ONES.add(case.id)
    elif is_graphql(case):
        case.body = graphql.print_ast(graphql.visit(graphql.parse(case.body), Fitting()))
    else:
        fit_rest(case)
    return case


@schemathesis.hook
def before_call(context, case, kwargs):
    for name, value in list((case.headers or {}).items()):
        # What urllib3 takes for an order to leave the header out.
        if value == "@@@SKIP_HEADER@@@":
            case.headers[name] = "x"
    # A revision that is not reached is waited for, for seconds, and then told with 503.
    revision = (case.headers or {}).get("imagehub-min-revision")
    if isinstance(revision, str) and re.fullmatch("[0-9]{1,19}", revision):
        case.headers["imagehub-min-revision"] = "1"


# --- What is left out --------------------------------------------------------------------------------


@dataclasses.dataclass
class Rule:
    """A reason why a finding is none."""

    # How many of a thousand requests it is a reason for at most.
    most: int
    # Whether it is the reason of this finding.
    applies: object


@dataclasses.dataclass
class Place:
    """A reason why a request that should fit is refused, and rightly."""

    most: int
    # What the refusal says: its status; the code and the place of what is wrong.
    status: int
    code: str
    place: str
    # Whether the request is so.
    is_so: object


def problem(response):
    """The problem that a refusal tells; `{}` where it is none."""
    is_problem = response.headers.get("content-type", [""])[0] == "application/problem+json"
    return response.json() if is_problem else {}


def is_condition(case, failure, response):
    asked = {name.lower() for name in case.headers or {}} & {"if-match", "if-none-match"}
    fits = failure.code == "ST202" and response.status_code == 412 and problem(response)["code"] == "CONFLICT"
    return fits and bool(asked) and case.method != "GET"


def is_unfit(case, failure, response):
    """Whether it is refused for a path or a header that doesn't fit the document, by the document."""
    if failure.code != "ST202" or response.status_code not in (400, 422):
        return False
    told = {error.get("parameter") for error in problem(response)["errors"]}
    named = {part: urllib.parse.unquote(str(value)) for part, value in (case.path_parameters or {}).items()}
    for location, sent in ((ParameterLocation.PATH, named), (ParameterLocation.HEADER, dict(case.headers or {}))):
        declared = case.operation.get_parameter_set(location)
        sent = {name: value for name, value in sent.items() if name in declared}
        # Of a path the refusal says "name": all of it.
        names = {"name"} if location == ParameterLocation.PATH else {name.lower() for name in sent}
        if sent and told & names and not declared.get_strict_validator().is_valid(sent):
            return True
    return False


def is_too_long(case, failure, response):
    sent = response.request
    length = len(sent.url) + sum(len(name) + len(value) for name, value in sent.headers.items())
    return failure.code == "ST201" and response.status_code in (414, 431) and not response.content and length >= 64 * 1024 - 1


def is_refused_one_by_one(case, failure, response):
    if failure.code != "ST201" or (case.method, case.path, response.status_code) != ("POST", "/images", 200):
        return False
    told = [error["code"] for one in response.json()["results"] for error in one["errors"]]
    return "INVALID" in told or "FORBIDDEN" in told


def refuses(code, message, argument):
    """Of a GraphQL request that has this argument: that all its errors have this code and say this."""

    def applies(case, failure, response):
        errors = response.json().get("errors") or [] if failure.code in ("ST113", "ST206") else []
        said = [error["extensions"]["code"] == code and re.fullmatch(message, error["message"]) for error in errors]
        return bool(said) and all(said) and re.search(argument, case.body) is not None

    return applies


RULES = {
    # schemathesis takes it for one that fits: it puts into a path what an answer had, and into a header what is too long.
    "a request that doesn't fit the document": Rule(15, is_unfit),
    # What is there is another thing, as with 404 and 409.
    "a condition that isn't met": Rule(5, is_condition),
    # HTTP/1.1 is read up to 64 KiB of an address and headers; many long parameters are more.
    "more than HTTP is read of": Rule(10, is_too_long),
    # Each of many has its own result, in an answer that is well.
    "many that are refused one by one": Rule(70, is_refused_one_by_one),
    # What the types of GraphQL have no words for.
    "pages: a cursor that is none of the list's": Rule(10, refuses("CURSOR_INVALID", "(after|before): .*", '(after|before): "')),
    "pages: less than nothing": Rule(10, refuses("INVALID", "(first|last) .*can't be negative", "(first|last): -")),
    "pages: too large": Rule(10, refuses("LIMIT_EXCEEDED", r".*\(limit: page size\)", r"(first|last): \d{3}")),
    "pages: of pages that cost too much": Rule(10, refuses("LIMIT_EXCEEDED", r".*\(limit: complexity\)", r"(first|last): \d{2}")),
    "pages: from both ends": Rule(10, refuses("INVALID", "say first or last, not both", r"(?s)first: -?\d.*last: -?\d")),
    "pages: an order that the list doesn't have": Rule(
        10, refuses("INVALID", "(?s).*(RELEVANCE|NAME, UPDATED or DOWNLOADS).*", "field: RELEVANCE")
    ),
}
PLACES = {
    "a cursor that is none of the list's": Place(15, 400, "CURSOR_INVALID", "cursor", lambda case: "cursor" in case.query),
    "by relevance, and no text": Place(5, 400, "INVALID", "sort", is_relevance_of_nothing),
    "a name that isn't the path's": Place(5, 422, "INVALID", "/name", lambda case: case.body["name"] != path_name(case)),
    "actions of one key": Place(5, 422, "INVALID", r"/actions/\d+/key", lambda case: doubled_keys(case.body)),
    "a time that is too long or too short": Place(5, 422, "INVALID", "/expireTime", is_out_of_time),
}


def reasons(case, failure, response):
    """Why a finding is none; nothing where it is one."""
    for name, rule in RULES.items():
        if rule.applies(case, failure, response):
            return [name]
    told = problem(response).get("errors") or [] if failure.code == "ST202" else []
    found = []
    for error in told:
        said = (response.status_code, error["code"])
        at = error.get("pointer") or error.get("parameter") or ""
        fitting = [name for name, one in PLACES.items() if (one.status, one.code) == said and re.fullmatch(one.place, at)]
        found.append(next((name for name in fitting if PLACES[name].is_so(case)), None))
    return found if all(found) else []


SEEN = {}
LEFT_OUT = collections.defaultdict(set)


@schemathesis.hook
def filter_failure(context, failure, case, response):
    found = reasons(case, failure, response)
    for name in found:
        LEFT_OUT[name].add(case.id)
    return not found


# How many of a hundred requests have to fit at least.
LEAST_FIT = 25
# How many of a hundred that fit, and that whoever asks may make, have to be accepted at least.
LEAST_ACCEPTED = 60


def refusals_inside(value):
    """The codes of refusals that are data: the results of many images, the errors of GraphQL's payloads."""
    if isinstance(value, list):
        return {code for one in value for code in refusals_inside(one)}
    if not isinstance(value, dict):
        return set()
    own = value.get("userErrors") or (value.get("errors") if value.get("outcome") == "REFUSED" else None) or []
    return {error.get("code") for error in own} | {code for one in value.values() for code in refusals_inside(one)}


def outcome(case, response):
    """What became of a request."""
    if not case.meta.generation.mode.is_positive:
        return "unfit"
    if is_graphql(case) or case.path == "/images":
        told = response.json()
        codes = {error["extensions"]["code"] for error in told.get("errors") or []} if is_graphql(case) else set()
        codes |= refusals_inside(told)
    else:
        codes = set()
    if response.status_code in (401, 403) or codes & {"UNAUTHENTICATED", "FORBIDDEN"}:
        return "not theirs"
    if response.status_code in (404, 409) or codes & {"NOT_FOUND", "ALREADY_EXISTS", "CONFLICT"}:
        return "not as things are"
    return "refused" if codes or response.status_code >= 400 else "accepted"


@schemathesis.check
def what_fits_is_taken_inside_too(ctx, response, case):
    """An answer that is well may tell of refusals: those are of what is there, and not of what was sent."""
    if (is_graphql(case) or case.path == "/images") and outcome(case, response) == "refused" and response.status_code == 200:
        inside = refusals_inside(response.json())
        assert "INVALID" not in inside or case.id in WILD_ONES, response.text


@schemathesis.check
class little_is_left_out:
    """Tells what was left out, and ends the run with a finding where it was much."""

    def after_response(self, ctx, response, case):
        SEEN[case.id] = outcome(case, response)

    def after_run(self, ctx):
        counts = collections.Counter(SEEN.values())
        told = [f"{len(SEEN)} requests: " + ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))]
        wrong = []
        for name, rule in (RULES | PLACES).items():
            count = len(LEFT_OUT[name])
            if count:
                told.append(f"  left out: {count} ({name})")
            if count * 1000 > rule.most * len(SEEN):
                wrong.append(f"{count} of {len(SEEN)} for {name}: {rule.most} of 1000 is the most")
        fit = len(SEEN) - counts["unfit"]
        if fit * 100 < LEAST_FIT * len(SEEN):
            wrong.append(f"{fit} of {len(SEEN)} fit: {LEAST_FIT} of 100 is the least")
        # At least one: a token that is no good is no reason to find nothing.
        theirs = max(fit - counts["not theirs"], 1)
        if counts["accepted"] * 100 < LEAST_ACCEPTED * theirs:
            wrong.append(f"{counts['accepted']} of {theirs} that fit were accepted: {LEAST_ACCEPTED} of 100 is the least")
        print("\n".join(told))
        assert not wrong, "; ".join(wrong)

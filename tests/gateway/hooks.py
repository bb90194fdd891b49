"""What schemathesis can't read in the contracts, and which refusals they don't speak of (SCHEMATHESIS_HOOKS=hooks)."""

import dataclasses
import re

import graphql
import schemathesis
from hypothesis import strategies as st
from schemathesis.graphql import nodes

# --- GraphQL -----------------------------------------------------------------------------------------

ORGANIZATIONS = st.sampled_from(["labring", "fuzz", "fuzz-2"])
REPOSITORIES = st.builds("{}/{}".format, ORGANIZATIONS, st.sampled_from(["nginx", "kubernetes", "app"]))
IMAGES = st.builds("{}:{}".format, REPOSITORIES, st.sampled_from(["v1.25.0", "1.0", "2_0"]))
# Names of things that may be there, names that are fit, and any text.
TEXTS = st.text(max_size=40)

for name, strategy in {
    "RepositoryName": REPOSITORIES | TEXTS,
    "ImageName": IMAGES | TEXTS,
    "Revision": st.integers(0, 2**40).map(str),
    "URL": st.just("https://example.com/icon.png"),
}.items():
    schemathesis.graphql.scalar(name, strategy.map(nodes.String))
schemathesis.graphql.scalar("Int53", st.integers(-(2**53) + 1, 2**53 - 1).map(nodes.Int))


class Fitting(graphql.Visitor):
    """Makes of most lists that are asked for ones that there can be: no cursors, which can't be guessed, one of `first`
    and `last`, and pages of 0 to 5."""

    def enter_field(self, node, *_):
        named = {argument.name.value: argument for argument in node.arguments or ()}
        size = named.get("first") or named.get("last")
        if size is None or not isinstance(size.value, (graphql.IntValueNode, graphql.NullValueNode)):
            return None
        length = getattr(size.value, "value", "20")
        if int(length) % 7 == 0 and length != "0":
            return None
        kept = [one for name, one in named.items() if name not in ("first", "last", "after", "before")]
        kept.append(graphql.ArgumentNode(name=size.name, value=nodes.Int(int(length) % 6)))
        return dataclasses.replace(node, arguments=tuple(kept))


def is_graphql(case):
    return case.operation.schema.specification.kind.name == "GRAPHQL"


@schemathesis.hook
def map_case(context, case):
    if is_graphql(case) and case.meta.generation.mode.is_positive:
        document = graphql.parse(case.body)
        case.body = graphql.print_ast(graphql.visit(document, Fitting()))
    return case


# What a GraphQL schema has no words for: how long a page may be, that `first` and `last` exclude each other, what a name
# looks like, what is there. A refusal says so by its code; a fault of the server's has another one.
REFUSALS = {
    "INVALID",
    "FORBIDDEN",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "CONFLICT",
    "CURSOR_INVALID",
    "LIMIT_EXCEEDED",
    "RATE_LIMITED",
}


def is_refusal(response):
    """Whether all errors of a GraphQL answer are refusals by our codes."""
    errors = response.json().get("errors") or []
    return bool(errors) and all(error.get("extensions", {}).get("code") in REFUSALS for error in errors)


# --- REST --------------------------------------------------------------------------------------------

# What a JSON Schema has no words for, by the place of the fault: where a request fits the document and is refused for
# nothing else, it is refused rightly.
UNTOLD_POINTERS = re.compile(
    r"/name"  # is the path's
    r"|(/\d+)?/name"  # of one of many: org/repo:tag
    r"|/names/\d+"  # org/repo:tag, or a name of before
    r"|/managers/\d+"  # no control characters, no spaces around; at most so many bytes
    r"|/keywords/\d+"  # at most so many bytes
    r"|/actions/\d+/key"  # is there once
    r"|/expireTime"  # a Go duration from 1s to 720h
)
UNTOLD_PARAMETERS = {
    "cursor",  # one that this server gave, for this list
    "sort",  # relevance only with a text to search for
    "name",  # of a path: all of it
}


def is_untold(case, response):
    """Whether a request that fits the document is refused by a rule that the document has no words for."""
    if response.headers.get("content-type", [""])[0] != "application/problem+json":
        return False
    problem = response.json()
    if response.status_code == 412:
        # If-Match and If-None-Match are of what is there.
        return problem["code"] == "CONFLICT"
    if response.status_code == 400 and problem["detail"].startswith("Last-Event-ID"):
        return True
    fits = [
        UNTOLD_POINTERS.fullmatch(error["pointer"]) if "pointer" in error else error.get("parameter") in UNTOLD_PARAMETERS
        for error in problem["errors"]
    ]
    return response.status_code in (400, 422) and bool(fits) and all(fits)


@schemathesis.hook
def before_call(context, case, kwargs):
    # A revision that is not reached is waited for, and then told with 503: a test of the server's clock.
    for name, value in list((case.headers or {}).items()):
        # What urllib3 takes for an order to leave the header out.
        if value == "@@@SKIP_HEADER@@@":
            case.headers[name] = "x"
    revision = (case.headers or {}).get("imagehub-min-revision")
    if isinstance(revision, str) and re.fullmatch("[0-9]{1,19}", revision):
        case.headers["imagehub-min-revision"] = "1"


def is_of_http(response):
    """Whether the head of the request was too long to be read as HTTP, so that no door answered. Any server may say so
    to any request; and a list of parameters as long as each may be, and as many, is longer than an address."""
    return response.status_code in (414, 431) and not response.content


def is_ignored(case, failure):
    """Whether all that doesn't fit the contract is what no server looks at."""
    components = re.findall("Invalid component: in (.*)", failure.message)
    ignored = lambda one: one.startswith("header - object with unexpected") or (case.method == "GET" and one.startswith("body"))
    return bool(components) and all(map(ignored, components))


def is_refused_one_by_one(case, response):
    """Whether each of many images was refused, and told why: the answer is 200 with a result for each; none for YAML that
    says nothing, as `null`."""
    if case.method != "POST" or case.path != "/images" or response.status_code != 200:
        return False
    results = response.json()["results"]
    return all(one["outcome"] == "REFUSED" and one["errors"] for one in results)


@schemathesis.hook
def filter_failure(context, failure, case, response):
    if is_of_http(response):
        return False
    # schemathesis knows Apollo's codes only, and takes all others with a path for faults of the server.
    if failure.code in ("ST113", "ST206"):
        return not is_refusal(response)
    # OpenAPI 3.1 has a text for a stream of events; schemathesis takes that for the form of each.
    if failure.code == "ST108":
        return False
    # A GET's body has no meaning (RFC 9110 section 9.3.1), and headers that nobody knows are nobody's.
    if failure.code == "ST201" and (is_ignored(case, failure) or is_refused_one_by_one(case, response)):
        return False
    if failure.code == "ST202":
        return not is_untold(case, response)
    return True

"""General English of requests and tools: what a verb does, what a noun is about, word stems.

Nothing here comes from a data set: the groups are what a thesaurus lists for common tools.
"""

from __future__ import annotations

from functools import lru_cache


def word_set(text: str) -> frozenset[str]:
    """Return the words of a text, as a set."""
    return frozenset(text.split())


#: What verbs (and the nouns made of them) do. A word may be in several groups.
_ACTIONS = {
    "pay": "pay paid payment transfer wire remit refund reimburse repay settle donate owe tip"
    " compensate payout deposit top-up chip",
    "send": "send sent email mail message text dm notify tell inform write reply respond forward"
    " post announce publish broadcast share remind contact ping deliver submit drop pass alert"
    " ask thank congratulate comment answer say greet welcome apologise apologize tweet upload"
    " transmit relay circulate distribute compose draft",
    "create": "create make add set setup schedule plan put save write draft open register"
    " generate start record note store enter insert compose build fill organise organize arrange"
    " prepare produce file log jot upload copy establish remind block publish",
    "book": "book reserve reservation booking order buy purchase rent hire get",
    "update": "update change modify edit adjust reschedule move rename set correct fix append"
    " extend replace postpone increase decrease reset amend revise alter switch raise lower mark"
    " refresh shift push bring add complete adapt assign put write renew rotate fill",
    "delete": "delete remove cancel clear erase unsubscribe kick trash revoke archive discard"
    " withdraw purge wipe terminate drop void close ban uninvite rid clean undo",
    "invite": "invite add include join enroll enrol onboard invitation subscribe assign bring put",
    "share": "share grant give invite access send permission",
    "execute": "run execute deploy install launch start invoke trigger apply restart build",
    "approve": "approve accept confirm sign authorise authorize merge agree",
}  # fmt: skip

#: What nouns are about.
_OBJECTS = {
    "money": "money transaction payment bill invoice rent fund amount fee subscription order"
    " refund iban bank transfer deposit salary debt price cost dollar euro difference cash"
    " allowance membership balance tip reimbursement donation",
    "message": "email mail message dm note letter inbox chat reply text thread conversation"
    " newsletter memo word response announcement reminder news",
    "event": "event calendar meeting appointment reminder invitation lunch dinner slot call"
    " session party schedule agenda visit interview standup sync checkup birthday trip date day"
    " meetup workshop breakfast coffee",
    "file": "file document doc folder note list text report spreadsheet sheet page drive"
    " minute attachment paper plan recipe summary table pdf directory script presentation",
    "person": "user member person people colleague teammate contact friend participant attendee"
    " guest employee team workspace her him them staff newcomer collaborator",
    "channel": "channel group room team space forum list thread chatroom",
    "web": "webpage website page site url link blog web article homepage wiki",
    "secret": "password passcode credential login pin key passphrase secret token",
    "profile": "info information profile detail account address contact data phone"
    " preference record name",
    "lodging": "hotel room stay lodging hostel apartment accommodation inn motel suite night",
    "dining": "restaurant dinner lunch table meal dining breakfast brunch eat bistro cafe",
    "vehicle": "car rental vehicle taxi cab van automobile rent",
    "travel": "flight plane train ticket airline seat bus trip",
    "task": "task todo issue ticket bug card item project story backlog",
    "code": "code repository repo branch commit pull pipeline release service server"
    " deployment container cluster database",
    "goods": "product item order cart shopping basket parcel package purchase",
}  # fmt: skip

#: Verbs that say by themselves what they are about.
_SELF_EVIDENT = {
    "money": "pay paid refund reimburse repay remit donate wire transfer owe settle",
    "message": "email mail message text dm notify reply forward tell inform write respond answer"
    " thank congratulate greet welcome say apologise apologize post announce"
    " announce ping remind",
    "event": "schedule reschedule remind postpone",
    "person": "invite onboard enroll enrol uninvite kick",
    "file": "write save",
}  # fmt: skip

#: First words of tools that look and do not change.
READING = word_set(
    "get list read fetch search find show lists view check describe look lookup query count"
    " summarise summarize browse open download retrieve load inspect peek head stat is has can who"
    " what which where when compare calculate compute convert translate validate verify preview"
    " scan return returns see tail grep glob ls cat explain analyse analyze estimate filter"
)  # fmt: skip

STOP = word_set(
    "a an the and or but if then else of to in on at for from by with as is are was were be been"
    " being it its this that these those i me my mine you your yours he him his she her hers we us"
    " our they them their what which who whom how when where why all any some each every no not"
    " do does did done can could will would shall should may might must have has had please so"
    " there here just also too very much more most about into over under after before up down out"
    " than one two first next last new same other own only even s t ll re ve d m hi hey hello"
    " thanks thank dear regards best ok yes"
)  # fmt: skip


@lru_cache(maxsize=16384)
def stem(word: str) -> str:
    """Return a word without its usual endings, so that its forms are equal."""
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "i"
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-2] if word.endswith(("shes", "ches", "xes", "sses")) else word[:-1]
    for ending, least in (("ing", 5), ("ed", 4)):
        if (
            len(word) > least
            and word.endswith(ending)
            and set(word[: -len(ending)]) & set("aeiouy")
        ):
            word = word[: -len(ending)]
            if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lsz":
                word = word[:-1]
            break
    if len(word) > 3 and word.endswith("e"):
        word = word[:-1]
    return word[:-1] + "i" if len(word) > 2 and word.endswith("y") else word


def _by_stem(groups: dict[str, str]) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for group, members in groups.items():
        for word in members.split():
            found.setdefault(stem(word), set()).add(group)
    return {word: frozenset(names) for word, names in found.items()}


ACTIONS = _by_stem(_ACTIONS)
OBJECTS = _by_stem(_OBJECTS)
SELF_EVIDENT = _by_stem(_SELF_EVIDENT)
NOTHING: frozenset[str] = frozenset()

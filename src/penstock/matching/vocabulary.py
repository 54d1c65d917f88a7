"""Closed classes of English words that the vetoes go by. Other languages have only the rules that need no words."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _groups(text: str) -> list[list[str]]:
    return [group.split() for group in text.split("|")]


def _opposites(text: str) -> dict[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {}
    for pair in text.split("|"):
        one, other = map(_words, pair.split(":"))
        for here, there in ((one, other), (other, one)):
            found |= {word: found.get(word, frozenset()) | there for word in here}
    return found


FUNCTION_WORDS = _words("""
    a about an and any are as at be been being but by can could did do does doing for from had has have having he
    her him his how i if in into is it its itself just me my of on or our ours she should so some such than that the
    their them then there these they this those to too us was we were what when where which while who whom whose why
    will with would you your yours am may might must shall also very really please s m re ve ll d get got
""")

NEGATORS = _words("""
    not no never none nothing nobody nor neither without cannot cant dont doesnt didnt wont isnt arent wasnt werent
    hasnt havent hadnt couldnt wouldnt shouldnt hardly barely rarely seldom nowhere unable incapable fail fails
    failed refuse refuses refused absent lack lacks lacked lacking
""")

NUMBER_WORDS = {
    word: str(value)
    for value, words in enumerate(
        _groups("""
    zero||two twice|three third thrice|four fourth|five fifth|six sixth|seven seventh|eight eighth|nine ninth|ten
    tenth|eleven eleventh|twelve twelfth|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen|nineteen|twenty
    """)
    )
    for word in words
} | {"thirty": "30", "forty": "40", "fifty": "50", "hundred": "100", "thousand": "1000", "half": "0.5", "double": "2"}
"""One is not among them: it is a pronoun more often. Nor is second, which is a unit."""

UNITS = {
    name: names[0]
    for names in _groups("""
    km kms kilometer kilometers kilometre kilometres|mile miles|m meter meters metre metres|cm centimeter
    centimeters centimetre centimetres|mm millimeter millimeters|inch inches|foot feet ft|yard yards|kg kgs kilo
    kilos kilogram kilograms|g gram grams|mg milligram milligrams|lb lbs pound pounds £ gbp|ounce ounces oz|liter
    liters litre litres|gallon gallons|celsius|fahrenheit|kelvin|kb kilobyte kilobytes|mb megabyte megabytes|gb
    gigabyte gigabytes|tb terabyte terabytes|second seconds sec secs|minute minutes min mins|hour hours hr hrs|day
    days|week weeks|month months|year years|% percent|usd dollar dollars $|eur euro euros €|yen jpy ¥|rupee rupees
    inr rs ₹|bitcoin btc|yuan rmb cny|kph kmh|mph|lakh lakhs|crore crores|million millions|billion billions
    """)
    for name in names
}

DATES = _words("""
    january february march april june july august september october november december jan feb mar apr jun jul aug
    sep sept oct nov dec monday tuesday wednesday thursday friday saturday sunday today tomorrow yesterday tonight
    morning afternoon evening weekend daily weekly monthly yearly annually next last current
""")

ASKED = _words("far long many much often old when where who whom whose why")

QUANTIFIERS = _words("all always entirely every few most mostly only partly some sometimes")

OPPOSITES = _opposites("""
    more:less fewer|most:least fewest|high:low|higher:lower|highest:lowest|big large huge:small little tiny|bigger
    larger:smaller|biggest largest:smallest|good:bad evil poor|better:worse|best:worst|hot warm:cold cool|fast
    quick:slow|faster:slower|quickly:slowly|old:new young|before:after|first:last|early:late|start begin open
    enable:stop end close disable finish|opened:closed|increase raise gain grow:decrease reduce lower lose lower
    shrink|add include insert:remove delete exclude|buy:sell rent|lend:borrow|send:receive|give:take|win won:lose
    lost|love like:hate dislike|left:right|up:down|inside:outside|above over:below
    under|above:beneath|near:far|cheap:expensive costly|easy simple:hard
    difficult|easier:harder|rich:poor|strong:weak|light:heavy dark|day:night|man men male boy boys:woman women
    female girl
    girls|husband:wife|father:mother|brother:sister|son:daughter|true:false|right:wrong|legal:illegal|accept allow
    permit:reject deny refuse forbid ban|pass:fail|succeed success:failure
    fail|public:private|same:different|always:never|import:export|encrypt:decrypt|upload:download|push:pull|show:hide|install:uninstall|connect:disconnect|lock:unlock|log_in:log_out|login:logout|positive:negative|minimum
    min:maximum max|advantage advantages pros benefits:disadvantage disadvantages cons drawbacks|cause:cure
    prevent|alive:dead|awake:asleep|full:empty|wet:dry|north northern:south southern|east eastern:west
    western|debit:credit|deposit:withdraw|withdrawal:deposit|asc:desc|ascending:descending|front:back|top:bottom|horizontal:vertical|input:output|everyone
    everybody:nobody|everything:nothing|often:rarely seldom|married:single
    divorced|gain:loss|profit:loss|student:teacher|parent:child|safe:dangerous|happy:sad|beautiful:ugly|long:short|longer:shorter|wide:narrow|deep:shallow|thick:thin|thin:fat|hire:fire|arrive:leave
    depart|attack:defend|believe:doubt|together:apart
""")

NEGATIVE_PREFIXES = ("un", "in", "im", "ir", "il", "non", "dis", "anti", "mis")
"""In front of a word of four letters or more they make its opposite."""

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

GLUE = {
    word: names[0] if names[0] != "-" else ""
    for names in _groups("""
    - a an the is are was were be been being am do does did doing has have had having it its itself s m re ve ll d
    very really please so just also that there then these this those such such|i me my mine us we our ours|you your
    yours|he him his|she her hers|they them their|can could may might|will would shall|should must|what which|who
    whom whose|get got|as like
    """)
    for word in names
}
"""The form of a function word in which it is compared; of articles and auxiliaries, none."""

NEGATORS = _words("""
    non not no never none nothing nobody nor neither without cannot cant dont doesnt didnt wont isnt arent wasnt werent
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
    days|week weeks|month months|year years yr yrs|% percent|usd dollar dollars $|eur euro euros €|yen jpy ¥|rupee
    rupees inr rs ₹|bitcoin btc|yuan rmb cny|kph kmh|mph|lakh lakhs|crore crores|million millions|billion billions
    """)
    for name in names
}

DATES = _words("""
    january february march april june july august september october november december jan feb mar apr jun jul aug
    sep sept oct nov dec monday tuesday wednesday thursday friday saturday sunday today tomorrow yesterday tonight
    morning afternoon evening noon midnight
""")

ASKED = _words("when where who whom whose why")
"""Words that say which kind of thing a question asks for."""

ASKED_AFTER_HOW = _words("far long many much often old big tall large high fast soon")

QUANTIFIERS = {
    word: group[0]
    for group in _groups("all every each everyone everybody|some sometimes few|only solely merely partly|always")
    for word in group
}

OPPOSITES = _opposites("""
    more:less fewer|most:least fewest|high:low|higher:lower|highest:lowest|big large huge:small little tiny|bigger
    larger:smaller|biggest largest:smallest|good:bad evil poor|better:worse|best:worst|hot warm:cold cool|fast
    quick:slow|faster:slower|quickly:slowly|old:new young|before:after|first:last|early:late|start begin open
    enable:stop end close disable finish|opened:closed|increase raise gain grow:decrease reduce lower lose lower
    shrink|add include insert:remove delete exclude|buy:sell rent|lend:borrow|send:receive|give:take|win won:lose
    lost|love like:hate dislike|left:right|up:down|inside:outside|above over:below under|above:beneath|near:far|
    cheap:expensive costly|easy simple:hard difficult|easier:harder|rich:poor|strong:weak|light:heavy dark|
    day:night|man men male boy boys:woman women female girl girls|husband:wife|father:mother|brother:sister|
    son:daughter|true:false|right:wrong|legal:illegal|accept allow permit:reject deny refuse forbid ban|pass:fail|
    succeed success:failure fail|public:private|same:different|always:never|import:export|encrypt:decrypt|
    upload:download|push:pull|show:hide|install:uninstall|connect:disconnect|lock:unlock|log_in:log_out|
    login:logout|positive:negative|minimum min:maximum max|advantage advantages pros benefits:disadvantage disadvantages
    cons drawbacks|cause:cure prevent|alive:dead|awake:asleep|full:empty|wet:dry|north northern:south southern|east
    eastern:west western|debit:credit|deposit:withdraw|withdrawal:deposit|asc:desc|ascending:descending|front:back|
    top:bottom|horizontal:vertical|input:output|everyone everybody:nobody|everything:nothing|often:rarely seldom|
    married:single divorced|gain:loss|profit:loss|student:teacher|parent:child|safe:dangerous|happy:sad|
    beautiful:ugly|long:short|longer:shorter|wide:narrow|deep:shallow|thick:thin|thin:fat|hire:fire|arrive:leave
    depart|attack:defend|believe:doubt|mandatory compulsory required:optional|together:apart
""")

NEGATIVE_PREFIXES = ("un", "in", "im", "ir", "il", "non", "dis", "anti", "mis")
"""In front of a word of four letters or more they make its opposite."""

SYNONYMS = _groups("""
    use utilize utilise employ|make create generate produce construct build|need require necessary|help assist
    aid support|show display present exhibit|get obtain acquire|give provide supply offer furnish|begin start
    commence initiate|end finish conclude terminate|buy purchase|fix repair mend|change alter modify|choose select|
    find locate discover|keep retain maintain|allow permit enable let|explain describe clarify|improve enhance|fast
    quick rapid swift speedy|big large huge|small little tiny|important essential crucial vital significant|easy
    simple effortless|hard difficult tough|way method approach manner|goal purpose objective aim|kind type|error
    mistake|difference distinction|benefit advantage pros|disadvantage drawback cons|answer reply respond|job
    employment|picture image photo photograph pic|movie film|car automobile|phone telephone cellphone|doctor physician|
    kid child children|site website|app application|college university|example instance|choice option|stop quit
    cease|decrease reduce lessen diminish|increase raise boost|remove delete erase eliminate|contain include comprise
    consist|work function operate|own possess|many numerous|enough sufficient adequate|maybe perhaps|almost nearly|
    entire whole complete|correct accurate|fun enjoyable|happy glad joyful|mention say|tell inform|called named
    termed|occur happen|speak talk|watch view|think believe|try attempt|want wish desire|ill sick|rich wealthy|smart
    clever intelligent|beautiful pretty|sure certain|usual typical general common|immediate instant|frequent often|
    specify indicate|retrieve fetch|determine decide|various different diverse|prevent avoid|ensure guarantee|handle
    manage|perform execute run|additional extra further|prior previous|main primary|suitable appropriate|combine
    merge|compute calculate|favorite favourite|color colour|center centre|organize organise|organization organisation|
    realize realise|program programme|behavior behaviour|gray grey|theater theatre|license licence|analyze analyse|
    analytics analysis|okay ok|guys people persons folks|women woman|men man|feet foot|teeth tooth|mice mouse|bought
    buy|made make|sent send|found find|lost lose|won win|went go|gone go|goes go|taken take|took take|given give|
    gave give|written write|wrote write|knew know|known know|spoken speak|spoke speak|ate eat|eaten eat|drunk
    drink|drank drink|built build|taught teach|learnt learn|thought think|felt feel|held hold|kept keep|paid pay|
    sell sold|told tell|worn wear|broken break|chosen choose
""")
"""Words that in most texts mean the same, and irregular forms. General English, no domain's terms."""

TURNING = _words("by from into onto")
"""Prepositions that turn a relation round: a text that has one more says another thing with the same words."""

COMMUTING = _words("and or vs versus between both with a an the of & nor")
"""Around these two words may change places."""

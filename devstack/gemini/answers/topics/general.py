"""Goals of no particular kind: a project with an end, and wishes that are still too vague to plan."""

from devstack.gemini.answers.topic import Topic

PROJECT = Topic(
    key="project",
    category="other",
    pattern=r"(?!)",
    outcome="every part on a list of at most ten is ticked off and the result is in use",
    target=10,
    unit="parts",
    curve="sum",
    hours=4,
    strategy=(
        "Cut '{goal}' into about {target}, order them by what blocks the rest, and finish about "
        "{part} each week in fixed blocks of {hours} a week. Each Sunday the list is compared with the "
        "calendar, so that a delay is seen after seven days and not at the end."
    ),
    phases=(
        ("Scope and first part", "Write down what finished means, list at most {target}, do the smallest one"),
        ("Steady building", "Two fixed blocks a week, one part at a time, nothing new before one is ticked off"),
        ("The hard middle", "Do the part you would rather put off, and ask for help with it in the same week"),
        ("Finish and hand over", "Close what is open, test the result in real use, and celebrate it with someone"),
    ),
    tasks=(
        (
            ("Write what 'finished' means for: {goal}", "Three sentences stand on one page", 1),
            ("List the parts, at most {target}, and mark what blocks what", "Each part has a size in hours", 2),
            ("Do the smallest part on the list", "It is ticked off", 3),
        ),
        (
            ("Block 1: work on the next part", "{v} of {target} are ticked off or the next action is written", 4),
            ("Block 2: finish what block 1 began", "Nothing is left half done", 4),
            ("Sunday check: list against calendar", "Next week's two blocks are in the calendar", 1),
        ),
        (
            ("Start with the part you like least", "Its first {min} minutes are done", 4),
            ("Ask one person for help or a second opinion", "The question is sent and a date agreed", 1),
            ("Close one more part", "{v} of {target} are ticked off", 4),
        ),
        (
            ("Close the last open parts", "{v} of {target} are ticked off", 4),
            ("Try the result in real use and note what is missing", "A list of at most three repairs", 2),
            ("Show it to someone", "They have seen it and said what they think", 1),
        ),
    ),
    criteria=(
        "{target} of {target} planned parts are ticked off by {due}",
        "The result has been used or shown at least once before {due}",
        "At least 9 of 10 planned weekly blocks took place",
    ),
    soft="You are satisfied with how it has turned out",
    risks=(
        ("The list keeps growing", "A new part may come in only when another of its size goes out; the limit is {target}"),
        ("Other duties eat the blocks", "Move a block within the same week; two missed blocks in a row cut the scope, not sleep"),
        ("A part depends on somebody else", "Ask in week 1 with a date, and write a second way in case of no answer"),
    ),
    habits=(
        "Work in the same two calendar blocks every week",
        "End each block by writing the next action in one line",
        "Check the list every Sunday for 15 minutes",
    ),
    achievable="About {part} a week within {hours} a week is a pace that leaves room for a lost week",
    relevant="You chose this yourself; finishing it frees the attention that an open project takes every day",
    asks=("What would make you call it finished?", "Who or what could block it?", "Which part can wait?"),
    assumes="I split the work into about {target} of a similar size",
    first="Take 15 minutes and write what 'finished' means for: {goal}",
    milestone="{v} of {target} ticked off",
    amount=r"NUM\s+(?:parts|steps|rooms|chapters|pieces|tasks)",
)

VAGUE = Topic(
    key="vague",
    category="other",
    pattern=r"(?!)",
    outcome="one area is chosen and practised 30 minutes on five days a week, with a score of 1 to 10 each Sunday",
    target=8,
    unit="points out of 10",
    begin=0.4,
    hours=2.5,
    strategy=(
        "Choose one area out of all that '{goal}' could mean, practise it 30 minutes on five days a week, "
        "and let a score of 1 to 10 each Sunday, and not a mood, say whether it works: from {start} to {target}."
    ),
    phases=(
        ("Choose one area", "List five things that bother you, score each 1 to 10, take the lowest that you can influence"),
        ("Daily half hour", "30 minutes from Monday to Friday at 18:00 on that one area, logged in one line"),
        ("Raise the bar", "Make the practice harder once per week and keep the Sunday score at {half} or above"),
    ),
    tasks=(
        (
            ("List five things in your life that you would like to change", "Five lines, each with a score of 1 to 10", 1),
            ("Take the lowest score that you can influence and write why", "One area is named in one sentence", 1),
            ("Try 30 minutes on it", "One line in the log: what you did, what changed", 1),
        ),
        (
            ("Practise your chosen area for {min} minutes", "One line in the log", 2),
            ("Practise it again at another time of day", "You know which time suits you better", 2),
            ("Sunday score: 1 to 10 with one reason", "The score stands beside last week's; aim: {v}", 1),
        ),
        (
            ("Do the harder version for {min} minutes", "You wrote what made it harder", 2),
            ("Ask someone who knows you what they notice", "Their sentence is in the log", 1),
            ("Sunday score: 1 to 10 with one reason", "The score stands beside last week's; aim: {v}", 1),
        ),
    ),
    criteria=(
        "The Sunday score of the chosen area is at least {target} by {due}",
        "At least 50 of 60 planned half hours are in the log by {due}",
        "Two people have named one change they noticed, in writing",
    ),
    soft="You feel better about how things are going",
    risks=(
        ("The area changes every week", "If you want to switch, finish the current 4 weeks first, then score again"),
        ("Nothing seems to move", "If the score stands still for 2 Sundays, halve the practice and change its time"),
    ),
    habits=(
        "Practise 30 minutes after work from Monday to Friday",
        "Write one line in the log right after each practice",
        "Score the area from 1 to 10 every Sunday evening",
    ),
    achievable="Half an hour on five days fits {hours} a week, and one area at a time is what people keep up",
    relevant="You said you want to {goal}; choosing one area shows what that means to you",
    asks=("Which area bothers you most just now?", "How would a friend notice the change?", "By when do you want to see it?"),
    assumes="You did not name an area, so choosing one comes first",
    first="Write down five things that bother you and score each from 1 to 10",
    milestone="A Sunday score of {v}",
)

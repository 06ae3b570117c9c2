#!/usr/bin/env python3
"""Writes VADER's data files and the golden scores that the tests of `sentiment` compare with.

    python3 -m venv venv && venv/bin/pip install vaderSentiment==3.3.2
    venv/bin/python tools/vader_golden.py

Every text is written here or put together here from word lists written here; the scores are the package's own.
With `--texts FILE` it prints the scores of FILE instead (one JSON string a line), to compare more texts than the golden ones.
"""

import argparse
import itertools
import json
import pathlib
import random

import vaderSentiment.vaderSentiment as vader

HERE = pathlib.Path(__file__).resolve().parent.parent / "crates/engines/src/sentiment"

WRITTEN = [
    # Nothing to score, and nothing but marks.
    "", " ", "\n\t", "!", "?", "!!!???", "...", "12345", "a", ":", "\u00e9",
    # One word, its case, its punctuation.
    "good", "Good", "GOOD", "good.", "good!", "good!!!!!!", "good?", "good??", "good???", "good????", "good?!?!", "\"good\"",
    "(good)", "ok", "OK", "OK!", "ok.", "no", "NO", "no!", "meh", "LOL", "lol :)", "Great!", "awful?!", "fav", "xd", "sob",
    # Capitals among small letters.
    "The soup was GOOD", "THE SOUP WAS GOOD", "the soup was good BUT cold", "A good DAY", "The staff were VERY good",
    "The staff were VERY bad", "the staff were Very Bad", "I AM HAPPY today", "NOT good", "It is NOT GOOD at all", "NO good",
    "1234 GOOD news", "GOOD 1234", "\u00c4RGER and JOY", "joy and \u00c4RGER",
    # Boosters at a distance of one, two and three words.
    "very good", "very bad", "slightly good", "slightly bad", "a very tasty good meal", "very very good", "very very very good",
    "really quite extremely awful", "extremely the good", "extremely of the good", "hardly good", "barely a good idea",
    "kind of good", "kinda good", "kind-of good", "it was kind of a good film", "it was sort of a bad film",
    "we had just enough good food", "there is just enough of good will", "kind of", "kind", "the kind of love", "more or less fine",
    "most beautiful", "uber handsome", "utterly UTTERLY hopeless", "little joy", "SLIGHTLY annoying", "slightly ANNOYING",
    # Negation at a distance of one, two and three words.
    "not good", "not very good", "not a very good idea", "not at all the good", "isn't good", "isn't it good", "it isnt good",
    "never good", "never so good", "never this good", "never so very good", "I have never been this happy",
    "he was never quite so kind", "never in my life so happy", "this good", "so good", "it was so good", "what a so nice cake",
    "we are this happy", "and then this awful", "without doubt good", "without a doubt excellent", "without any doubt an honest man",
    "without doubt an excellent choice", "without joy", "without much joy", "without any real joy", "nobody likes it",
    "none are happy", "nor happy", "neither rich nor happy", "nothing good came of it", "seldom happy", "despite the joy",
    "didn't love", "wouldn't ever hate", "can't stand it", "cant complain", "uh-uh nice", "rarely a pleasure", "cannot recommend",
    "I don't think it is good", "It shan't be a problem", "mustn\u2019t fail", "isn\u2019t good",
    # "no" as a word of its own, and before another.
    "no problem", "no good", "no, good", "no joy or love", "no joy nor love", "no hope of love", "no very good friend", "no no",
    "no no no", "oh no", "there is no harm", "no one was hurt", "no fuss, no worry", "say no", "No WORRY", "no but good",
    # "least".
    "least good", "at least good", "very least good", "the least good", "At least it isn't a horrible book.", "least", "least of all happy",
    "LEAST helpful", "the very least interesting talk", "last but not least wonderful",
    # "but", with repeated values on both sides.
    "good but bad", "bad but good", "but good", "good but", "but", "good good but bad bad", "good good good but good good",
    "bad bad but good bad good", "good, but good but good", "happy sad happy sad but happy sad", "BUT good", "good BUT bad",
    "The plot was good, but the characters are uncompelling and the dialog is not great.",
    "I love it but I hate it but I love it", "great great, great! but the great GREAT hall was awful, awful", "good (but) bad",
    "joy love joy but love joy love but joy", "not good but not bad", "kind but cruel", "butter is good but the bread is bad",
    "hate hate but hate", "fine but fine", "nice nice nice nice but", "but nice nice nice nice",
    # Phrases.
    "this is the shit", "this is the bomb", "they said it was the bomb", "a really bad ass bike", "he is a badass", "we met at the bus stop",
    "we waited at the old bus stop sadly", "oh well yeah right", "oh well, yeah right happy", "that was the kiss of death",
    "it got the kiss of death today", "a cake that is to die for", "these are all to die for", "my own beating heart",
    "I can feel her beating heart", "cut the mustard", "under the weather", "in the red", "he broke a leg", "the shit hit the fan",
    "some of the kiss of death", "so we said yeah right and left", "what a bad ass", "bad ass", "the bomb", "to die for", "yeah right",
    # Emoticons and emoji.
    ":)", ":(", ":-)", ":D", ":d", ":-P", "XD", "o.o", "O_o", "<3", "</3", ":'(", "(:", ">:(", "good :)", "bad :)", ":) :) :(",
    "great:)", "great :)!", "$:", "^_^", "lol!", "\U0001F600", "\U0001F600\U0001F600", "good\U0001F622", "\U0001F622good",
    "\U0001F622 good", "not \U0001F600", "very \U0001F60D!", "Catch utf-8 emoji such as \U0001F498 and \U0001F48B and \U0001F601",
    "\u2764", "\u2764\ufe0f", "\U0001F44D\U0001F3FD", "\U0001F468\u200d\U0001F469\u200d\U0001F467", "\U0001F51B good", "\U0001F199",
    "\U0001F621!!!", "so\U0001F600so\U0001F622so", "line\n\U0001F600line", "\u00a9 good", "\U0001F1EB\U0001F1F7 good",
    # White space and other scripts.
    "good\u00a0bad", "good\u001cbad", "good\u001fbad", "good\u0085bad", "good\u200bbad", "good\u2003bad", "good\u3000bad",
    "  good  ", "good\tbad\r\nugly", "\u0130YI good", "\u0394\u039f\u03a3 good", "\u01c5 GOOD", "stra\u00dfe GOOD", "\u5584 good",
    "good\u2026", "good\u2014bad", "\u201cgood\u201d", "good/bad", "good-bad", "good,bad", "#good", "@good", "http://good.example",
    "*good*", "_good_", "good's", "'good'", "g.o.o.d",
    # Whole texts.
    "The parcel came on Tuesday, was well packed and works exactly as promised. I am very happy with it!",
    "The parcel came two weeks late. The box was crushed, the handle broken, and nobody answered my calls. Never again.",
    "Our meeting is on Thursday at ten in the small room on the second floor.",
    "Friendly staff, lovely rooms, terrible breakfast. We would come back, but not for the coffee!",
    "I wouldn't say that I was disappointed, but I have certainly had better days.",
    "Is this REALLY the best you can do??? I asked for help three times, and THREE times I was ignored!!",
    "Thanks a lot for the quick and kind answer, you saved my day :-)",
    "The invoice is wrong again. This is the third time this year and I am sick of it.",
    "Without doubt the finest concert hall that I have ever sat in; the soloist was superb, the orchestra hardly less so.",
    "not only did the update fix nothing, it also broke what little worked. congrats, i guess :/",
    "Yay!!! We won, we won, WE WON \U0001F389\U0001F389 best team ever \u2764",
    "He died peacefully, loved by many, hated by none.",
    "good " * 40, "bad " * 40 + "but " + "good " * 40, "neutral words only here " * 10, "good bad " * 17 + "but" + " bad good" * 17,
]

LEXICON = "good bad great awful love hate happy sad nice terrible no kind sick brilliant fail hope".split()
EMOTICONS = [":)", ":(", "<3", "XD", "\U0001F600", "\U0001F621"]
MODIFIERS = (
    "very slightly not never so this without doubt least at but kind of sort just enough or nor isn't hardly REALLY BUT NOT quite "
    "nothing to die for the shit bomb yeah right beating heart bus stop"
).split()
OTHERS = "the house was a we and it table on Monday".split()
MARKS = ["", "", "", "", ".", ",", "!", "?", "!!", "???", "...", "?!"]


def composed(count, seed):
    """Texts put together at random from words that meet many rules at once."""
    draw = random.Random(seed)
    for _ in range(count):
        words = []
        for _ in range(draw.randint(2, 14)):
            kind = draw.choices([LEXICON, EMOTICONS, MODIFIERS, OTHERS], [6, 1, 6, 4])[0]
            word = draw.choice(kind)
            if draw.random() < 0.12:
                word = word.upper()
            words.append(word + draw.choice(MARKS))
        yield " ".join(words)


def scores(analyzer, text):
    found = analyzer.polarity_scores(text)
    return {
        "text": text,
        "positive": found["pos"],
        "neutral": found["neu"],
        "negative": found["neg"],
        "compound": found["compound"],
    }


def rows(raw):
    for line in raw.rstrip("\n").split("\n"):
        if line.strip():
            yield line.strip().split("\t")[0:2]


def write(path, lines):
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--texts", type=pathlib.Path, help="print the scores of these texts, one JSON string a line")
    arguments.add_argument("--composed", type=int, help="print the scores of this many composed texts of another seed")
    arguments = arguments.parse_args()

    analyzer = vader.SentimentIntensityAnalyzer()
    if arguments.texts or arguments.composed:
        texts = itertools.chain(
            (json.loads(line) for line in open(arguments.texts, encoding="utf-8")) if arguments.texts else [],
            composed(arguments.composed, seed=7) if arguments.composed else [],
        )
        for text in texts:
            print(json.dumps(scores(analyzer, text), ensure_ascii=True))
        return

    write(HERE / "vader_data/lexicon.tsv", ("\t".join(row) for row in rows(analyzer.lexicon_full_filepath)))
    emoji = (row for row in rows(analyzer.emoji_full_filepath) if len(row[0]) == 1)
    write(HERE / "vader_data/emoji.tsv", ("\t".join(row) for row in emoji))
    golden = [*dict.fromkeys(WRITTEN), *composed(150, seed=3)]
    write(HERE / "vader_data/golden.jsonl", (json.dumps(scores(analyzer, text), ensure_ascii=True) for text in golden))


if __name__ == "__main__":
    main()

from llmserving_lab.serving.greedy import Agreement, Answer, agreement, random_questions

SURE = (5.0, 5.0, 5.0)


def test_equal_answers_are_identical_whatever_their_margins() -> None:
    assert agreement([Answer((1, 2, 3), (0.0, 0.0, 0.0))], [Answer((1, 2, 3), SURE)], tie_nats=0.01) == Agreement(
        1, 0, ()
    )


def test_answers_that_part_at_a_tie_of_the_reference_are_tied() -> None:
    reference = Answer((1, 2, 3), (5.0, 0.001, 5.0))
    assert agreement([reference], [Answer((1, 9, 9), SURE)], tie_nats=0.01) == Agreement(0, 1, ())


def test_any_other_difference_is_one() -> None:
    reference = Answer((1, 2, 3), (5.0, 0.5, 0.001))
    others = [Answer((1, 9, 3), SURE), Answer((1, 2), SURE[:2]), Answer((1, 2, 3, 4), (*SURE, 5.0))]
    found = agreement([reference] * 3, others, tie_nats=0.01)
    assert found == Agreement(0, 0, (0, 1, 2))


def test_a_tie_of_the_other_side_excuses_nothing() -> None:
    tied = Answer((1, 9, 3), (5.0, 0.0, 5.0))
    assert agreement([Answer((1, 2, 3), SURE)], [tied], tie_nats=0.01).different == (0,)


def test_questions_repeat_for_a_seed() -> None:
    assert random_questions(5, seed=1) == random_questions(5, seed=1) != random_questions(5, seed=2)

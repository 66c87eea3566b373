"""What a step may contain: the seam between the scheduler mixin and the laws that plan a step."""

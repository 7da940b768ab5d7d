"""Effects of treatments that nobody drew by lot, from what is known of those who were treated and who were not."""

"""The Markov chain of a run with one or two parameters, solved without sampling."""

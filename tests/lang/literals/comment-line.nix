1 # two
# three

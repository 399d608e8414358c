"""Ask about notes before training: do their texts support them, and what does the model know of the data set?"""

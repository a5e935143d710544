"""What early requests gain, beside the least that any order of the same requests could take."""

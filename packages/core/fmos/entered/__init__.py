"""What entered the sessions of agents: from whom, with which labels, kept sealed.

The trust gate writes and judges by it, memory and context read and pass on its labels: servers
never import each other, so they meet here.
"""
